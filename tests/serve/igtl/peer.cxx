// A client of the tests on the C++ reference library: it sends one scan and prints what comes back, in the library's words.
//
// Usage: peer PORT VOXELS OUT, then on standard input: the size, the spacing, twelve numbers of the pose (three unit
// vectors and the centre, RAS) and the time in seconds and nanoseconds. VOXELS is int16, i fastest; each mask goes to
// OUT.0, OUT.1 ...
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "igtlCapabilityMessage.h"
#include "igtlClientSocket.h"
#include "igtlImageMessage.h"
#include "igtlMessageHeader.h"
#include "igtlPolyDataMessage.h"
#include "igtlStatusMessage.h"
#include "igtlStringMessage.h"
#include "igtlTimeStamp.h"

namespace {

template <class Message> typename Message::Pointer receive(igtl::Socket* socket, igtl::MessageHeader::Pointer& header) {
  typename Message::Pointer message = Message::New();
  message->SetMessageHeader(header);
  message->AllocatePack();
  socket->Receive(message->GetPackBodyPointer(), message->GetPackBodySize());
  if (!(message->Unpack(1) & igtl::MessageHeader::UNPACK_BODY)) {  // 1: the checksum is compared
    std::cout << "WRONG " << header->GetDeviceType() << std::endl;
    std::exit(1);
  }
  return message;
}

void printTime(const char* what, igtl::ImageMessage::Pointer& image) {
  igtl::TimeStamp::Pointer stamp = igtl::TimeStamp::New();
  image->GetTimeStamp(stamp);
  igtlUint32 seconds, nanoseconds;
  stamp->GetTimeStamp(&seconds, &nanoseconds);
  std::printf("%s %s %u %u\n", what, image->GetDeviceName(), seconds, nanoseconds);
}

// The centroid of every label, from the library's own matrix: unit vectors and the centre of the volume.
void printCentroids(igtl::ImageMessage::Pointer& image) {
  int size[3];
  float spacing[3];
  igtl::Matrix4x4 matrix;
  image->GetDimensions(size);
  image->GetSpacing(spacing);
  image->GetMatrix(matrix);
  const unsigned char* labels = static_cast<const unsigned char*>(image->GetScalarPointer());
  std::vector<double> sum(256 * 4, 0.0);
  for (int k = 0; k < size[2]; ++k)
    for (int j = 0; j < size[1]; ++j)
      for (int i = 0; i < size[0]; ++i) {
        const int index[3] = {i, j, k};
        double* of = &sum[4 * *labels++];
        of[3] += 1;
        for (int axis = 0; axis < 3; ++axis) {
          of[axis] += matrix[axis][3];
          for (int c = 0; c < 3; ++c) of[axis] += matrix[axis][c] * spacing[c] * (index[c] - (size[c] - 1) / 2.0);
        }
      }
  for (int label = 1; label < 256; ++label)
    if (const double count = sum[4 * label + 3])
      std::printf("CENTROID %d %.6f %.6f %.6f\n", label, sum[4 * label] / count, sum[4 * label + 1] / count,
                  sum[4 * label + 2] / count);
}

void printSurface(igtl::PolyDataMessage::Pointer& surface) {
  igtl::PolyDataPointArray::Pointer points = surface->GetPoints();
  igtl::PolyDataCellArray::Pointer triangles = surface->GetPolygons();
  double sum[3] = {0, 0, 0};
  for (int id = 0; id < points->GetNumberOfPoints(); ++id) {
    igtlFloat32 point[3];
    points->GetPoint(id, point);
    for (int axis = 0; axis < 3; ++axis) sum[axis] += point[axis] / points->GetNumberOfPoints();
  }
  unsigned int corners = 0;
  for (unsigned int id = 0; id < triangles->GetNumberOfCells(); ++id) corners += triangles->GetCellSize(id);
  std::printf("POLYDATA %s %d %u %u %.4f %.4f %.4f\n", surface->GetDeviceName(), points->GetNumberOfPoints(),
              triangles->GetNumberOfCells(), corners, sum[0], sum[1], sum[2]);
}

// The library of this version has no COMMAND; this is its body, packed and summed by the library. Answers have the same form.
class CommandMessage : public igtl::MessageBase {
 public:
  typedef CommandMessage Self;
  typedef igtl::SmartPointer<Self> Pointer;
  igtlTypeMacro(CommandMessage, igtl::MessageBase);
  igtlNewMacro(CommandMessage);
  std::string name, text;

 protected:
  CommandMessage() { m_DefaultBodyType = "COMMAND"; }
  int GetBodyPackSize() { return 4 + 128 + 2 + 4 + text.size(); }
  int PackBody() {
    AllocatePack();
    std::memset(m_Body, 0, 132);
    m_Body[3] = 7;
    std::memcpy(m_Body + 4, name.data(), name.size());
    const size_t length = text.size();
    const unsigned char head[6] = {0, 3, 0, 0, (unsigned char)(length >> 8), (unsigned char)length};
    std::memcpy(m_Body + 132, head, 6);
    std::memcpy(m_Body + 138, text.data(), length);
    return 1;
  }
  int UnpackBody() {
    name = reinterpret_cast<char*>(m_Body) + 4;
    text.assign(reinterpret_cast<char*>(m_Body) + 138, m_BodySizeToRead - 138);
    return UNPACK_HEADER | UNPACK_BODY;
  }
};

class CommandReply : public CommandMessage {
 public:
  typedef CommandReply Self;
  typedef igtl::SmartPointer<Self> Pointer;
  igtlTypeMacro(CommandReply, CommandMessage);
  igtlNewMacro(CommandReply);

 protected:
  CommandReply() { m_DefaultBodyType = "RTS_COMMAND"; }
};

void sendCommand(igtl::Socket* socket, const char* name, const char* text) {
  CommandMessage::Pointer message = CommandMessage::New();
  message->SetDeviceName("console");
  message->name = name;
  message->text = text;
  message->Pack();
  socket->Send(message->GetPackPointer(), message->GetPackSize());
}

void sendString(igtl::Socket* socket, const char* words) {
  igtl::StringMessage::Pointer message = igtl::StringMessage::New();
  message->SetDeviceName("words");
  message->SetString(words);
  message->Pack();
  socket->Send(message->GetPackPointer(), message->GetPackSize());
}

}  // namespace

int main(int, char* argv[]) {
  std::setvbuf(stdout, nullptr, _IONBF, 0);  // printf and cout take turns
  int size[3];
  float spacing[3];
  igtl::Matrix4x4 matrix;
  igtl::IdentityMatrix(matrix);
  unsigned int seconds, nanoseconds;
  std::cin >> size[0] >> size[1] >> size[2] >> spacing[0] >> spacing[1] >> spacing[2];
  for (int column = 0; column < 4; ++column)
    for (int row = 0; row < 3; ++row) std::cin >> matrix[row][column];
  std::cin >> seconds >> nanoseconds;

  igtl::ClientSocket::Pointer socket = igtl::ClientSocket::New();
  if (!std::cin || socket->ConnectToServer("127.0.0.1", std::atoi(argv[1])) != 0) return 2;
  igtl::GetCapabilityMessage::Pointer query = igtl::GetCapabilityMessage::New();
  query->Pack();
  socket->Send(query->GetPackPointer(), query->GetPackSize());
  sendString(socket, "surfaces on");
  sendCommand(socket, "info", "<Command Name=\"info\"/>");

  igtl::ImageMessage::Pointer scan = igtl::ImageMessage::New();
  scan->SetDimensions(size);
  scan->SetSpacing(spacing);
  scan->SetScalarTypeToInt16();
  scan->SetEndian(igtl::ImageMessage::ENDIAN_LITTLE);
  scan->SetDeviceName("oblique");
  scan->AllocateScalars();
  std::ifstream(argv[2], std::ios::binary).read(static_cast<char*>(scan->GetScalarPointer()), scan->GetImageSize());
  scan->SetMatrix(matrix);
  igtl::TimeStamp::Pointer time = igtl::TimeStamp::New();
  time->SetTime(seconds, nanoseconds);
  scan->SetTimeStamp(time);
  scan->Pack();
  printTime("SENT", scan);
  socket->Send(scan->GetPackPointer(), scan->GetPackSize());

  igtl::MessageHeader::Pointer header = igtl::MessageHeader::New();
  for (int masks = 0;;) {
    header->InitPack();
    if (socket->Receive(header->GetPackPointer(), header->GetPackSize()) != header->GetPackSize()) return 3;
    header->Unpack();
    const std::string type = header->GetDeviceType();
    if (type == "STATUS") {
      igtl::StatusMessage::Pointer status = receive<igtl::StatusMessage>(socket, header);
      std::printf("STATUS %d %s\n", status->GetCode(), status->GetErrorName());
      if (std::strcmp(status->GetErrorName(), "accepted") != 0) break;
    } else if (type == "IMAGE") {
      igtl::ImageMessage::Pointer mask = receive<igtl::ImageMessage>(socket, header);
      printTime("IMAGE", mask);
      std::ofstream(argv[3] + std::string(".") + std::to_string(masks++), std::ios::binary)
          .write(static_cast<char*>(mask->GetScalarPointer()), mask->GetImageSize());
      printCentroids(mask);
    } else if (type == "POLYDATA") {
      igtl::PolyDataMessage::Pointer surface = receive<igtl::PolyDataMessage>(socket, header);
      printSurface(surface);
    } else if (type == "CAPABILITY") {
      igtl::CapabilityMessage::Pointer can = receive<igtl::CapabilityMessage>(socket, header);
      for (int id = 0; id < can->GetNumberOfTypes(); ++id) std::cout << "CAPABILITY " << can->GetType(id) << std::endl;
    } else if (type == "STRING") {
      std::printf("STRING %s\n", receive<igtl::StringMessage>(socket, header)->GetString());
    } else if (type == "RTS_COMMAND") {
      CommandReply::Pointer answer = receive<CommandReply>(socket, header);
      std::printf("RTS_COMMAND %s %s\n", answer->name.c_str(), answer->text.c_str());
    } else {
      return 4;
    }
  }
  socket->CloseSocket();
  return 0;
}

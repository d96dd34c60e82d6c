// A verdiff bundle (docs/bundle.md): a zip of files stored as they are, each with its SHA-256 in the manifest.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

namespace verdiff {

inline const std::string PIPELINE = "graphs/pipeline.fp32.onnx";

// The entries of a zip that stores its files as they are, as bundles and their goldens are written.
inline std::map<std::string, std::string> stored_files(const std::string& zip) {
    auto number = [&](size_t at, int bytes) {
        if (at + bytes > zip.size()) throw std::runtime_error("the zip is cut short");
        uint64_t value = 0;
        for (int i = bytes; i-- > 0;) value = value << 8 | uint8_t(zip[at + i]);
        return size_t(value);
    };
    auto part = [&](size_t at, size_t length) {
        if (at > zip.size() || length > zip.size() - at) throw std::runtime_error("the zip is cut short");
        return zip.substr(at, length);
    };
    const size_t end = zip.rfind("PK\5\6");
    if (end == std::string::npos) throw std::runtime_error("not a zip: no directory at its end");
    std::map<std::string, std::string> files;
    size_t at = number(end + 16, 4);
    for (size_t left = number(end + 10, 2); left > 0; --left) {
        const size_t name = number(at + 28, 2), local = number(at + 42, 4), length = number(at + 24, 4);
        if (number(at + 10, 2) != 0) throw std::runtime_error("a compressed entry; bundles are stored as they are");
        files[part(at + 46, name)] = part(local + 30 + number(local + 26, 2) + number(local + 28, 2), length);
        at += 46 + name + number(at + 30, 2) + number(at + 32, 2);
    }
    return files;
}

inline std::string sha256(const std::string& data) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    EVP_Digest(data.data(), data.size(), digest, &length, EVP_sha256(), nullptr);
    std::string text;
    for (unsigned int i = 0; i < length; ++i) text += {"0123456789abcdef"[digest[i] >> 4], "0123456789abcdef"[digest[i] & 15]};
    return text;
}

// The entry of that name.
inline const std::string& entry_of(const std::map<std::string, std::string>& files, const std::string& name) {
    const auto found = files.find(name);
    if (found == files.end()) throw std::runtime_error("no file " + name + " in the bundle");
    return found->second;
}

// A bundle whose files are those of its manifest, every one compared by its SHA-256.
class Bundle {
public:
    nlohmann::json manifest;

    explicit Bundle(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        if (!file || std::filesystem::is_directory(path)) throw std::runtime_error("cannot read " + path + ", which is to be a bundle of one file");
        files_ = stored_files({std::istreambuf_iterator<char>(file), {}});
        manifest = nlohmann::json::parse(entry_of(files_, "manifest.json"));
        if (manifest.at("schema_version") != 1) throw std::runtime_error("a bundle of a schema that this host does not know");
        for (const auto& [name, hash] : manifest.at("files").items())
            if (files_.count(name) == 0 || sha256(files_[name]) != hash) throw std::runtime_error("damaged or missing: " + name);
        if (manifest.at("files").size() + 1 != files_.size()) throw std::runtime_error("files that the manifest does not list");
    }
    const std::string& read(const std::string& name) const { return entry_of(files_, name); }

private:
    std::map<std::string, std::string> files_;
};

// An array of numbers with its shape, its last axis running fastest.
template <typename T> struct Array {
    std::vector<int64_t> shape;
    std::vector<T> values;
};

// An array of a golden file. A bundle's publisher may not be a friend: no header is believed before its numbers are there.
template <typename T> Array<T> array_of(const std::map<std::string, std::string>& files, const std::string& name) {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, uint8_t>, "goldens hold these");
    const std::string& npy = entry_of(files, name);
    const std::runtime_error odd(name + " is no array of " + (sizeof(T) == 4 ? "32-bit floats" : "bytes") + " as a golden has it");
    if (npy.size() < 10 || npy.compare(0, 8, "\x93NUMPY\1\0", 8) != 0) throw odd;
    const size_t header = 10 + uint8_t(npy[8]) + 256 * uint8_t(npy[9]);
    if (header > std::min<size_t>(npy.size(), 512)) throw odd;
    std::smatch found;
    static const std::regex described(R"(\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(((?:\d{1,9}, ?)*(?:\d{1,9})?)\), \}\s*)");
    const std::string text = npy.substr(10, header - 10);
    if (!std::regex_match(text, found, described) || found[1] != (sizeof(T) == 4 ? "<f4" : "|u1")) throw odd;
    Array<T> array;
    std::istringstream lengths(found[2]);
    size_t left = npy.size() - header, count = 1;
    for (std::string length; std::getline(lengths, length, ',') && length.find_first_of("0123456789") != std::string::npos;) {
        array.shape.push_back(std::stoll(length));
        // No more than the file's bytes, so that no product of lengths runs over.
        count *= size_t(array.shape.back());
        if (count > left) throw odd;
    }
    if (count * sizeof(T) != left) throw odd;
    array.values.resize(count);
    std::memcpy(array.values.data(), npy.data() + header, left);
    return array;
}

}  // namespace verdiff

// verdiff-segment MODEL.verdiff SCAN.nii.gz MASK.nii.gz: the golden test, then the mask of a NIfTI volume.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>

#include <nifti1_io.h>

// CMake's VERDIFF_ENGINE says which.
#ifdef VERDIFF_ONNXRUNTIME
#include "onnxruntime_engine.hpp"
constexpr auto* make_engine = verdiff::onnxruntime_engine;
#else
#include "openvino_engine.hpp"
constexpr auto* make_engine = verdiff::openvino_engine;
#endif

using Nifti = std::unique_ptr<nifti_image, void (*)(nifti_image*)>;

template <typename T> void scaled(const nifti_image& scan, std::vector<float>& voxels) {
    const T* stored = static_cast<const T*>(scan.data);
    const float slope = scan.scl_slope == 0 ? 1 : float(scan.scl_slope), shift = scan.scl_slope == 0 ? 0 : float(scan.scl_inter);
    for (size_t i = 0; i < voxels.size(); ++i) voxels[i] = float(stored[i]) * slope + shift;
}

// The scan with its voxels, all of them: nifti_image_load fills what a file lacks with zeros.
Nifti read_nifti(const char* name) {
    Nifti scan(nifti_image_read(name, 0), nifti_image_free);
    if (!scan || scan->nvox != size_t(scan->nx) * scan->ny * scan->nz) throw std::runtime_error(std::string(name) + " is no NIfTI volume");
    const size_t size = scan->nvox * scan->nbyper;
    scan->data = std::malloc(size);
    const std::unique_ptr<znzptr, void (*)(znzFile)> file(znzopen(scan->iname, "rb", nifti_is_gzfile(scan->iname)), [](znzFile f) { znzclose(f); });
    bool whole = scan->data && file && znzseek(file.get(), scan->iname_offset, SEEK_SET) >= 0 && znzread(scan->data, 1, size, file.get()) == size;
    char rest[4096];  // at the end of a gzip its checksum is compared, and a reading that fails gives more than was asked for
    for (size_t more = 1; whole && more > 0; whole = more <= sizeof rest) more = znzread(rest, 1, sizeof rest, file.get());
    if (!whole) throw std::runtime_error(std::string(name) + " is cut short or damaged");
    if (scan->swapsize > 1 && scan->byteorder != nifti_short_order()) nifti_swap_Nbytes(size / scan->swapsize, scan->swapsize, scan->data);
    return scan;
}

verdiff::Volume volume_of(const nifti_image& scan) {
    if (scan.sform_code <= 0 && scan.qform_code <= 0) throw std::runtime_error("a scan that states no orientation");
    verdiff::Volume volume{{scan.nx, scan.ny, scan.nz}, {scan.dx, scan.dy, scan.dz}, {}, std::vector<float>(scan.nvox)};
    const auto& to_ras = scan.sform_code > 0 ? scan.sto_xyz : scan.qto_xyz;
    for (int row = 0; row < 3; ++row)
        for (int axis = 0; axis < 3; ++axis) {  // NIfTI's world is RAS, the contract's LPS
            volume.direction[3 * row + axis] = (row < 2 ? -1 : 1) * to_ras.m[row][axis] / volume.spacing_mm[axis];
            const float other = scan.qform_code > 0 ? scan.qto_xyz.m[row][axis] : to_ras.m[row][axis];
            if (!(std::abs(other - to_ras.m[row][axis]) < 0.01 * volume.spacing_mm[axis])) throw std::runtime_error("a scan that states two orientations");
        }
    switch (scan.datatype) {
        case DT_INT8: scaled<int8_t>(scan, volume.voxels); break;
        case DT_UINT8: scaled<uint8_t>(scan, volume.voxels); break;
        case DT_INT16: scaled<int16_t>(scan, volume.voxels); break;
        case DT_UINT16: scaled<uint16_t>(scan, volume.voxels); break;
        case DT_INT32: scaled<int32_t>(scan, volume.voxels); break;
        case DT_FLOAT32: scaled<float>(scan, volume.voxels); break;
        case DT_FLOAT64: scaled<double>(scan, volume.voxels); break;
        default: throw std::runtime_error("voxels of a type that this example does not read");
    }
    return volume;
}

// The mask in the scan's grid, read back: nifti_image_write does not say when it fails.
void write_nifti(const char* name, const nifti_image& scan, const std::vector<uint8_t>& mask) try {
    const Nifti out(nifti_copy_nim_info(&scan), nifti_image_free);
    out->datatype = DT_UINT8, out->nbyper = 1, out->scl_slope = 0, out->cal_max = 0, out->cal_min = 0;
    out->data = std::malloc(mask.size());
    std::memcpy(out->data, mask.data(), mask.size());
    if (nifti_set_filenames(out.get(), name, 0, 1) != 0) throw std::runtime_error("no name for a NIfTI file");
    nifti_image_write(out.get());
    if (std::memcmp(read_nifti(name)->data, mask.data(), mask.size()) != 0) throw std::runtime_error("another mask was written");
} catch (const std::exception& error) {
    std::filesystem::remove(name);
    throw std::runtime_error(std::string(name) + " cannot be written: " + error.what());
}

int main(int count, char** names) try {
    if (count != 4) return std::fprintf(stderr, "usage: verdiff-segment MODEL.verdiff SCAN.nii.gz MASK.nii.gz\n"), 2;
    // What is wrong with the files is said before the model is loaded.
    const std::filesystem::path mask(names[3]);
    if (std::filesystem::exists(mask)) throw std::runtime_error(mask.string() + " exists");
    if (!std::filesystem::is_directory(std::filesystem::absolute(mask).parent_path())) throw std::runtime_error("there is no folder for " + mask.string());
    if (mask.extension() != ".nii" && mask.extension() != ".gz") throw std::runtime_error(mask.string() + " does not end in .nii or .nii.gz");
    const Nifti scan = read_nifti(names[2]);
    const verdiff::Volume volume = volume_of(*scan);
    const verdiff::Bundle bundle(names[1]);
    const verdiff::Engine engine = make_engine(bundle.read(verdiff::PIPELINE));
    verdiff::require_golden(bundle, engine);
    write_nifti(names[3], *scan, verdiff::segment(bundle, engine, volume));
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "verdiff-segment: %s\n", error.what());
    return 1;
}

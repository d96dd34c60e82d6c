// verdiff-segment MODEL.verdiff SCAN.nii.gz MASK.nii.gz: the golden test, then the mask of a NIfTI volume.
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

verdiff::Volume volume_of(const nifti_image& scan) {
    verdiff::Volume volume{{scan.nx, scan.ny, scan.nz}, {scan.dx, scan.dy, scan.dz}, {}, std::vector<float>(scan.nvox)};
    const auto& to_ras = scan.sform_code > 0 ? scan.sto_xyz : scan.qto_xyz;
    for (int row = 0; row < 3; ++row)
        for (int axis = 0; axis < 3; ++axis)  // NIfTI's world is RAS, the contract's LPS
            volume.direction[3 * row + axis] = (row < 2 ? -1 : 1) * to_ras.m[row][axis] / volume.spacing_mm[axis];
    switch (scan.datatype) {
        case DT_UINT8: scaled<uint8_t>(scan, volume.voxels); break;
        case DT_INT16: scaled<int16_t>(scan, volume.voxels); break;
        case DT_UINT16: scaled<uint16_t>(scan, volume.voxels); break;
        case DT_INT32: scaled<int32_t>(scan, volume.voxels); break;
        case DT_FLOAT32: scaled<float>(scan, volume.voxels); break;
        default: throw std::runtime_error("voxels of a type that this example does not read");
    }
    return volume;
}

int main(int count, char** names) try {
    if (count != 4) return std::fprintf(stderr, "usage: verdiff-segment MODEL.verdiff SCAN.nii.gz MASK.nii.gz\n"), 2;
    if (std::filesystem::exists(names[3])) throw std::runtime_error(std::string(names[3]) + " exists");
    const verdiff::Bundle bundle(names[1]);
    const verdiff::Engine engine = make_engine(bundle.read(verdiff::PIPELINE));
    verdiff::require_golden(bundle, engine);
    const Nifti scan(nifti_image_read(names[2], 1), nifti_image_free);
    if (!scan || scan->nvox != size_t(scan->nx) * scan->ny * scan->nz) throw std::runtime_error("not a NIfTI volume");
    const std::vector<uint8_t> mask = verdiff::segment(bundle, engine, volume_of(*scan));
    const Nifti out(nifti_copy_nim_info(scan.get()), nifti_image_free);
    out->datatype = DT_UINT8, out->nbyper = 1, out->scl_slope = 0, out->cal_max = 0, out->cal_min = 0;
    out->data = std::malloc(mask.size());
    std::memcpy(out->data, mask.data(), mask.size());
    if (nifti_set_filenames(out.get(), names[3], 0, 1) != 0) throw std::runtime_error("no name for a NIfTI file");
    nifti_image_write(out.get());
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "verdiff-segment: %s\n", error.what());
    return 1;
}

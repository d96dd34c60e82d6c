// NIfTI-1 volumes in and masks out, with libnifti. What a header may state is what verdiff/imaging/nifti_geometry.py takes.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <nifti1_io.h>

#include "verdiff.hpp"

namespace verdiff {

using Nifti = std::unique_ptr<nifti_image, void (*)(nifti_image*)>;

// Python's bounds: what float32 may round off a pitch, off a quaternion and off a place, and how far axes may be from right angles.
constexpr double SPACING = 1e-3, TURN = 1e-3, PLACE_MM = 0.01, SHEAR = 3.2e-4;

// One of a header's two orientations, in mm and in NIfTI's own world: the step along each voxel axis, and the first voxel's centre.
struct Form {
    using Place = std::array<double, 3>;
    std::array<Place, 3> axes;
    Place place;
};

inline double dot(const Form::Place& one, const Form::Place& other) { return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]; }
inline double length_of(const Form::Place& axis) { return std::sqrt(dot(axis, axis)); }

// The scan with its voxels, all of them: nifti_image_load fills what a file lacks with zeros.
inline Nifti read_nifti(const std::string& name) {
    // libnifti would look for files of other names, too.
    if (!std::filesystem::is_regular_file(name)) throw std::runtime_error("there is no file " + name);
    nifti_set_debug_level(0);  // what is wrong is said by what is thrown
    Nifti scan(nifti_image_read(name.c_str(), 0), nifti_image_free);
    // The scan has another number for a pitch or an offset that libnifti does not like.
    const std::unique_ptr<nifti_1_header, void (*)(void*)> header(scan ? nifti_read_header(name.c_str(), nullptr, 0) : nullptr, std::free);
    if (!scan || !header || scan->nifti_type != NIFTI_FTYPE_NIFTI1_1 || scan->nvox != size_t(scan->nx) * scan->ny * scan->nz)
        throw std::runtime_error(name + " is no NIfTI volume");
    for (int axis = 1; axis <= std::min<int>(3, header->dim[0]); ++axis)
        if (!(header->pixdim[axis] > 0 && std::isfinite(header->pixdim[axis])))
            throw std::runtime_error(name + " states a voxel spacing of " + std::to_string(header->pixdim[axis]) + " (pixdim); expected: positive numbers");
    const double stated = header->vox_offset;
    if (stated != 0 && !(stated >= sizeof(nifti_1_header) && stated < 0x1p31 && stated == std::floor(stated)))
        throw std::runtime_error(name + " has its voxels begin at byte " + std::to_string(stated) + " (vox_offset), which is no place behind its header");
    const size_t size = scan->nvox * scan->nbyper;
    // Writers that leave the offset 0 mean the first byte there can be: behind the header, or behind four bytes that follow it.
    const size_t before = stated == 0 ? 4 : 0;
    scan->data = std::malloc(size + before);
    const std::unique_ptr<znzptr, void (*)(znzFile)> file(znzopen(scan->iname, "rb", nifti_is_gzfile(scan->iname)), [](znzFile f) { znzclose(f); });
    const long start = before > 0 ? long(sizeof(nifti_1_header)) : long(stated);
    size_t got = 0;
    if (scan->data && file && znzseek(file.get(), start, SEEK_SET) >= 0) got = znzread(scan->data, 1, size + before, file.get());
    bool whole = got == size + before || got == size;
    char rest[4096];  // at the end of a gzip its checksum is compared, and a reading that fails gives more than was asked for
    for (size_t more = 1; whole && more > 0; whole = more <= sizeof rest) more = znzread(rest, 1, sizeof rest, file.get());
    if (!whole) throw std::runtime_error(name + " is cut short or damaged: its header promises " + std::to_string(size) + " bytes of voxels from byte " + std::to_string(start) + " on (vox_offset)");
    if (got > size) std::memmove(scan->data, static_cast<char*>(scan->data) + before, size);
    if (scan->swapsize > 1 && scan->byteorder != nifti_short_order()) nifti_swap_Nbytes(size / scan->swapsize, scan->swapsize, scan->data);
    return scan;
}

inline Form form_of(const mat44& matrix, double unit_mm) {
    Form form{};
    for (int row = 0; row < 3; ++row) {
        for (int axis = 0; axis < 3; ++axis) form.axes[axis][row] = matrix.m[row][axis] * unit_mm;
        form.place[row] = matrix.m[row][3] * unit_mm;
    }
    return form;
}

inline void check_form(const Form& form, const std::array<double, 3>& spacing_mm) {
    for (const auto& part : {form.axes[0], form.axes[1], form.axes[2], form.place})
        if (!std::isfinite(part[0] + part[1] + part[2])) throw std::runtime_error("a scan whose orientation has values that are no numbers");
    for (int axis = 0; axis < 3; ++axis) {
        const Form::Place &one = form.axes[axis], &other = form.axes[(axis + 1) % 3];
        const double length = length_of(one);
        if (!(length > 0 && length_of(other) > 0)) throw std::runtime_error("a scan whose orientation has an axis of no length");
        if (!(std::abs(dot(one, other)) / length / length_of(other) <= SHEAR))
            throw std::runtime_error("a scan whose orientation is sheared: its axes are not at right angles");
        if (!(std::abs(length / spacing_mm[axis] - 1) <= SPACING))
            throw std::runtime_error("a scan that states two spacings: pixdim " + std::to_string(spacing_mm[axis]) + " and an axis of " + std::to_string(length) + " mm");
    }
}

// Whether two forms place every corner of the grid alike, but for rounding.
inline bool agree(const Form& one, const Form& other, const std::array<int64_t, 3>& size) {
    auto corner = [&](const Form& form, int bits) {
        Form::Place place = form.place;
        for (int axis = 0; axis < 3; ++axis)
            for (int row = 0; row < 3; ++row) place[row] += double((bits >> axis & 1) * (size[axis] - 1)) * form.axes[axis][row];
        return place;
    };
    auto from = [](const Form::Place& here, const Form::Place& there) { return length_of({here[0] - there[0], here[1] - there[1], here[2] - there[2]}); };
    const double allowed = std::max(PLACE_MM, 0.01 * std::min({length_of(other.axes[0]), length_of(other.axes[1]), length_of(other.axes[2])}));
    for (int bits = 0; bits < 8; ++bits)
        if (!(from(corner(one, bits), corner(other, bits)) <= allowed + TURN * from(corner(other, bits), other.place))) return false;
    return true;
}

template <typename T> void scaled(const nifti_image& scan, std::vector<float>& voxels) {
    const T* stored = static_cast<const T*>(scan.data);
    const float slope = scan.scl_slope == 0 ? 1 : float(scan.scl_slope), shift = scan.scl_slope == 0 ? 0 : float(scan.scl_inter);
    for (size_t i = 0; i < voxels.size(); ++i) voxels[i] = float(stored[i]) * slope + shift;
}

// The scan as the contract's volume: its lengths in mm whatever the header's unit, its orientation the one that the header states.
inline Volume volume_of(const nifti_image& scan) {
    if (scan.sform_code <= 0 && scan.qform_code <= 0) throw std::runtime_error("a scan that states no orientation");
    const double unit_mm = scan.xyz_units == NIFTI_UNITS_METER ? 1000 : scan.xyz_units == NIFTI_UNITS_MICRON ? 1e-3 : 1;
    Volume volume{{scan.nx, scan.ny, scan.nz}, {scan.dx * unit_mm, scan.dy * unit_mm, scan.dz * unit_mm}, {}, std::vector<float>(scan.nvox)};
    const Form qform = form_of(scan.qto_xyz, unit_mm), form = scan.sform_code > 0 ? form_of(scan.sto_xyz, unit_mm) : qform;
    check_form(form, volume.spacing_mm);
    if (scan.qform_code > 0) {
        const double turn = double(scan.quatern_b) * scan.quatern_b + double(scan.quatern_c) * scan.quatern_c + double(scan.quatern_d) * scan.quatern_d;
        const bool rotation = turn <= 1 + TURN;
        if (!rotation && scan.sform_code <= 0) throw std::runtime_error("a scan whose orientation has a quaternion of no rotation");
        if (!(rotation && agree(qform, form, volume.size))) throw std::runtime_error("a scan that states two orientations");
    }
    for (int row = 0; row < 3; ++row)
        for (int axis = 0; axis < 3; ++axis)  // NIfTI's world is RAS, the contract's LPS
            volume.direction[3 * row + axis] = (row < 2 ? -1 : 1) * form.axes[axis][row] / length_of(form.axes[axis]);
    switch (scan.datatype) {
        case DT_INT8: scaled<int8_t>(scan, volume.voxels); break;
        case DT_UINT8: scaled<uint8_t>(scan, volume.voxels); break;
        case DT_INT16: scaled<int16_t>(scan, volume.voxels); break;
        case DT_UINT16: scaled<uint16_t>(scan, volume.voxels); break;
        case DT_INT32: scaled<int32_t>(scan, volume.voxels); break;
        case DT_FLOAT32: scaled<float>(scan, volume.voxels); break;
        case DT_FLOAT64: scaled<double>(scan, volume.voxels); break;
        default: throw std::runtime_error("voxels of a type that this reader does not know");
    }
    return volume;
}

inline bool names_nifti(const std::string& name) {
    auto ends = [&](const std::string& with) { return name.size() > with.size() && name.compare(name.size() - with.size(), with.size(), with) == 0; };
    return ends(".nii") || ends(".nii.gz");
}

// The mask in the scan's grid, read back: nifti_image_write does not say when it fails.
inline void write_nifti(const std::string& name, const nifti_image& scan, const std::vector<uint8_t>& mask) try {
    // Another ending libnifti lengthens, and writes over what is there.
    if (!names_nifti(name)) throw std::runtime_error("it does not end in .nii or .nii.gz");
    const Nifti out(nifti_copy_nim_info(&scan), nifti_image_free);
    out->datatype = DT_UINT8, out->nbyper = 1, out->scl_slope = 0, out->cal_max = 0, out->cal_min = 0;
    out->data = std::malloc(mask.size());
    std::memcpy(out->data, mask.data(), mask.size());
    if (nifti_set_filenames(out.get(), name.c_str(), 0, 1) != 0) throw std::runtime_error("no name for a NIfTI file");
    nifti_image_write(out.get());
    if (std::memcmp(read_nifti(name)->data, mask.data(), mask.size()) != 0) throw std::runtime_error("another mask was written");
} catch (const std::exception& error) {
    std::filesystem::remove(name);
    throw std::runtime_error(name + " cannot be written: " + error.what());
}

}  // namespace verdiff

// verdiff-segment MODEL.verdiff SCAN.nii.gz MASK.nii.gz: the golden test, then the mask of a NIfTI volume.
#include <cstdio>
#include <exception>
#include <filesystem>

#include "nifti.hpp"

// CMake's VERDIFF_ENGINE says which.
#ifdef VERDIFF_ONNXRUNTIME
#include "onnxruntime_engine.hpp"
constexpr auto* make_engine = verdiff::onnxruntime_engine;
#else
#include "openvino_engine.hpp"
constexpr auto* make_engine = verdiff::openvino_engine;
#endif

int main(int count, char** names) try {
    if (count != 4) return std::fprintf(stderr, "usage: verdiff-segment MODEL.verdiff SCAN.nii.gz MASK.nii.gz\n"), 2;
    // What is wrong with the files is said before the model is loaded.
    const std::filesystem::path mask(names[3]);
    if (std::filesystem::exists(mask)) throw std::runtime_error(mask.string() + " exists");
    if (!std::filesystem::is_directory(std::filesystem::absolute(mask).parent_path())) throw std::runtime_error("there is no folder for " + mask.string());
    if (!verdiff::names_nifti(mask.string())) throw std::runtime_error(mask.string() + " does not end in .nii or .nii.gz");
    const verdiff::Nifti scan = verdiff::read_nifti(names[2]);
    const verdiff::Volume volume = verdiff::volume_of(*scan);
    const verdiff::Bundle bundle(names[1]);
    const verdiff::Engine engine = make_engine(bundle.read(verdiff::PIPELINE));
    verdiff::require_golden(bundle, engine);
    verdiff::write_nifti(names[3], *scan, verdiff::segment(bundle, engine, volume));
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "verdiff-segment: %s\n", error.what());
    return 1;
}

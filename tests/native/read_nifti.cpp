// read-nifti SCAN MASK: what native/cpp/nifti.hpp makes of a scan, or why it refuses it, as JSON for test_nifti.py; a mask without a structure.
#include <exception>
#include <iostream>
#include <vector>

#include "nifti.hpp"

int main(int, char** names) {
    nlohmann::json found;
    try {
        const verdiff::Nifti scan = verdiff::read_nifti(names[1]);
        const verdiff::Volume volume = verdiff::volume_of(*scan);
        verdiff::write_nifti(names[2], *scan, std::vector<uint8_t>(volume.voxels.size()));
        found = {{"size", volume.size}, {"spacingMm", volume.spacing_mm}, {"direction", volume.direction}, {"voxels", volume.voxels}};
    } catch (const std::exception& error) {
        found = {{"refused", error.what()}};
    }
    std::cout << found << "\n";
}

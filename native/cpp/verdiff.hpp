// A host for verdiff's models without Python: docs/contract.md, version 2.
//
//     verdiff::Bundle bundle("spine-mr.verdiff");                              // checked, hash by hash
//     verdiff::Engine engine = verdiff::openvino_engine(bundle.read(verdiff::PIPELINE));
//     verdiff::require_golden(bundle, engine);                                 // before the first patient
//     std::vector<uint8_t> labels = verdiff::segment(bundle, engine, volume);  // in the volume's own voxels
//
// It needs C++17, nlohmann-json and OpenSSL's libcrypto, and an engine that runs ONNX: openvino_engine.hpp, onnxruntime_engine.hpp, or yours.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bundle.hpp"

namespace verdiff {

// Voxels with x running fastest. Direction cosines are row major: columns are the voxel axes, rows are L, P and S.
struct Volume {
    std::array<int64_t, 3> size;
    std::array<double, 3> spacing_mm;
    std::array<double, 9> direction;
    std::vector<float> voxels;
};

// One call of pipeline.onnx: N slices of h x w pixels, M samples, K structures, H x W model pixels after padding.
struct Question {
    int64_t N, h, w, M, K, H, W;
    std::vector<float> slices, noise;
    std::array<float, 2> bounds;
    std::array<int64_t, 2> size;
};
struct Answer {
    std::vector<uint8_t> labels;
    std::vector<float> uncertainty;
};
using Engine = std::function<Answer(const Question&)>;

// Standard normal numbers of one slice and sample: Philox4x32-10 and Box-Muller, in float64, rounded to float32.
inline void noise_of(uint64_t seed, uint32_t slice, uint32_t sample, float* out, size_t count) {
    for (size_t block = 0; 4 * block < count; ++block) {
        uint32_t word[4] = {uint32_t(block), slice, sample, 0}, key[2] = {uint32_t(seed), uint32_t(seed >> 32)};
        for (int round = 0; round < 10; ++round, key[0] += 0x9E3779B9, key[1] += 0xBB67AE85) {
            const uint64_t first = 0xD2511F53ull * word[0], second = 0xCD9E8D57ull * word[2];
            const uint32_t next[4] = {uint32_t(second >> 32) ^ word[1] ^ key[0], uint32_t(second),
                                      uint32_t(first >> 32) ^ word[3] ^ key[1], uint32_t(first)};
            std::copy(next, next + 4, word);
        }
        for (size_t pair = 0; pair < 2; ++pair) {
            const double radius = std::sqrt(-2 * std::log((word[2 * pair] + 0.5) * 0x1p-32));
            const double angle = 6.283185307179586 * ((word[2 * pair + 1] + 0.5) * 0x1p-32);
            const size_t at = 4 * block + 2 * pair;
            if (at < count) out[at] = float(radius * std::cos(angle));
            if (at + 1 < count) out[at + 1] = float(radius * std::sin(angle));
        }
    }
}

// The box of the voxels brighter than the darkest, without the margins around it: [first, last + 1] of x, y and z.
using Box = std::array<std::array<int64_t, 2>, 3>;

inline Box picture_of(const Volume& volume) {
    const auto [X, Y, Z] = volume.size;
    float least = HUGE_VALF;
    for (const float value : volume.voxels) least = std::isfinite(value) ? std::min(least, value) : least;
    Box box{{{X, 0}, {Y, 0}, {Z, 0}}};
    for (int64_t z = 0, voxel = 0; z < Z; ++z)
        for (int64_t y = 0; y < Y; ++y)
            for (int64_t x = 0; x < X; ++x, ++voxel) {
                if (!(volume.voxels[voxel] > least && std::isfinite(volume.voxels[voxel]))) continue;
                const int64_t at[3] = {x, y, z};
                for (int axis = 0; axis < 3; ++axis)
                    box[axis] = {std::min(box[axis][0], at[axis]), std::max(box[axis][1], at[axis] + 1)};
            }
    return box[0][1] > 0 ? box : Box{{{0, X}, {0, Y}, {0, Z}}};
}

// How a box is walked in the model's view: voxel = start + slice * step[0] + row * step[1] + column * step[2].
struct Walk {
    std::array<int64_t, 3> count, step;
    std::array<double, 3> pitch_mm;
    int64_t start = 0;
};

inline Walk walk(const Volume& volume, const std::string& view, const Box& box) {
    using Axis = std::pair<int, double>;  // L, P or S, and the sign with which it runs
    static const std::map<std::string, std::array<Axis, 3>> views = {{"sagittal", {{{0, 1.}, {2, -1.}, {1, 1.}}}},
                                                                     {"coronal", {{{1, 1.}, {2, -1.}, {0, 1.}}}},
                                                                     {"axial", {{{2, 1.}, {1, 1.}, {0, 1.}}}}};
    if (views.count(view) == 0) throw std::runtime_error("this host takes volumes, and the model the view " + view);
    // For L, P and S the voxel axis nearest to it: the assignment with the largest sum of cosines.
    std::array<int, 3> nearest{}, order{0, 1, 2};
    double best = -1;
    do {
        double fit = 0;
        for (int world = 0; world < 3; ++world) fit += std::abs(volume.direction[3 * world + order[world]]);
        fit = std::nearbyint(fit * 1e6);
        if (fit > best) best = fit, nearest = order;
    } while (std::next_permutation(order.begin(), order.end()));
    const int64_t stride[3] = {1, volume.size[0], volume.size[0] * volume.size[1]};
    Walk found;
    for (int i = 0; i < 3; ++i) {
        const auto [world, sign] = views.at(view)[i];
        const int voxel = nearest[world];
        const bool backwards = (volume.direction[3 * world + voxel] >= 0) != (sign > 0);
        const auto [first, end] = box[voxel];
        found.count[i] = end - first;
        found.pitch_mm[i] = volume.spacing_mm[voxel];
        found.step[i] = backwards ? -stride[voxel] : stride[voxel];
        found.start += stride[voxel] * (backwards ? end - 1 : first);
    }
    return found;
}

// Up to which number voxels are padding, or -infinity: a number far below zero that many voxels have and few come near.
inline double padding_below(const std::vector<float>& sorted) {
    if (sorted.empty() || !(sorted.front() <= -500)) return -HUGE_VAL;
    const double middle = double(sorted.front()) / 2;
    const auto same = std::upper_bound(sorted.begin(), sorted.end(), sorted.front()) - sorted.begin();
    const auto upto = std::upper_bound(sorted.begin(), sorted.end(), middle) - sorted.begin();
    if (same < 1e-3 * sorted.size() || upto - same > 0.25 * same || size_t(upto) == sorted.size()) return -HUGE_VAL;
    const double second = padding_below({sorted.begin() + upto, sorted.end()});
    return std::isinf(second) ? middle : second;
}

// The intensities that become -1 and 1.
inline std::array<float, 2> bounds_of(const Volume& volume, const Box& box, const nlohmann::json& rule) {
    const double low = rule.at("low"), high = rule.at("high");
    if (rule.at("kind") == "window") return {float(low), float(high)};
    if (rule.at("kind") != "percentile") throw std::runtime_error("an intensity rule that this host does not know");
    std::vector<float> sorted;
    for (int64_t z = box[2][0]; z < box[2][1]; ++z)
        for (int64_t y = box[1][0]; y < box[1][1]; ++y) {
            const auto line = volume.voxels.begin() + (z * volume.size[1] + y) * volume.size[0];
            std::copy_if(line + box[0][0], line + box[0][1], std::back_inserter(sorted), [](float v) { return std::isfinite(v); });
        }
    std::sort(sorted.begin(), sorted.end());
    const double padding = padding_below(sorted);
    sorted.erase(sorted.begin(), std::upper_bound(sorted.begin(), sorted.end(), padding));
    if (sorted.empty()) throw std::runtime_error("an image without a finite voxel");
    auto percentile = [&](double percent) {
        const double rank = percent / 100 * double(sorted.size() - 1);
        const size_t floor = size_t(rank), next = std::min(floor + 1, sorted.size() - 1);
        return double(sorted[floor]) + (double(sorted[next]) - double(sorted[floor])) * (rank - double(floor));
    };
    double first = percentile(low), last = percentile(high);
    if (!(first < last)) first = sorted.front(), last = sorted.back();
    if (!(first < last)) throw std::runtime_error("a constant image");
    return {float(first), float(last)};
}

// The mask of a volume in its own voxels: 0 for background, else the id of a structure. `done` hears of every slice.
inline std::vector<uint8_t> segment(const Bundle& bundle, const Engine& engine, const Volume& volume,
                                    const std::function<void(int64_t, int64_t)>& done = {}) {
    const auto& manifest = bundle.manifest;
    if (int64_t(volume.voxels.size()) != volume.size[0] * volume.size[1] * volume.size[2])
        throw std::runtime_error("a volume whose voxels are not those of its size");
    const Box box = picture_of(volume);
    const Walk way = walk(volume, manifest.at("view"), box);
    const int64_t multiple = manifest.at("multiple"), samples = manifest.at("defaults").at("samples");
    const uint64_t seed = manifest.at("defaults").at("seed");
    const double spacing = manifest.at("spacing_mm");
    // Halves go to the even number: the default of std::nearbyint.
    auto in_model = [&](int i) { return std::max<int64_t>(1, std::llrint(double(way.count[i]) * way.pitch_mm[i] / spacing)); };
    auto padded = [&](int64_t length) { return (length + multiple - 1) / multiple * multiple; };
    Question ask{1, way.count[1], way.count[2], samples, int64_t(manifest.at("labels").size()), 0, 0, {}, {}, {}, {}};
    ask.size = {in_model(1), in_model(2)};
    ask.H = padded(ask.size[0]), ask.W = padded(ask.size[1]);
    ask.bounds = bounds_of(volume, box, manifest.at("intensity"));
    ask.slices.resize(ask.h * ask.w);
    const size_t count = ask.K * ask.H * ask.W;
    ask.noise.resize(samples * count);
    std::vector<uint8_t> mask(volume.voxels.size());
    for (int64_t slice = 0; slice < way.count[0]; ++slice) {
        auto each_pixel = [&](auto&& visit) {
            for (int64_t row = 0; row < ask.h; ++row)
                for (int64_t col = 0; col < ask.w; ++col)
                    visit(row * ask.w + col, way.start + slice * way.step[0] + row * way.step[1] + col * way.step[2]);
        };
        each_pixel([&](int64_t pixel, int64_t voxel) { ask.slices[pixel] = volume.voxels[voxel]; });
        for (int64_t m = 0; m < samples; ++m) noise_of(seed, uint32_t(slice), uint32_t(m), ask.noise.data() + m * count, count);
        const Answer answer = engine(ask);
        each_pixel([&](int64_t pixel, int64_t voxel) { mask[voxel] = answer.labels.at(pixel); });
        if (done) done(slice + 1, way.count[0]);
    }
    return mask;
}

// The golden test of the contract: this host's noise and this engine's masks are the model's own, or it throws.
inline void require_golden(const Bundle& bundle, const Engine& engine) {
    const auto files = stored_files(bundle.read("golden/golden.npz"));
    const auto image = array_of<float>(files, "image.npy");
    const auto expected = array_of<uint8_t>(files, "labels.npy");
    const auto surprise = array_of<float>(files, "uncertainty.npy");
    const auto K = int64_t(bundle.manifest.at("labels").size());
    if (image.shape.size() != 4 || image.shape[1] != 1 || image.values.empty()) throw std::runtime_error("golden: no image of shape [N, 1, H, W]");
    const int64_t N = image.shape[0], H = image.shape[2], W = image.shape[3];
    if (expected.values.size() != image.values.size() || surprise.values.size() != image.values.size())
        throw std::runtime_error("golden: labels or uncertainty of another size than its image");
    Question ask{N, H, W, 1, K, H, W, image.values, {}, {-1, 1}, {H, W}};
    if (files.count("noise.npy")) {
        ask.noise = array_of<float>(files, "noise.npy").values;
        const size_t each = K * H * W;
        if (ask.noise.size() != N * each) throw std::runtime_error("golden: noise of another size than its image");
        std::vector<float> made(each);
        for (int64_t slice = 0; slice < N; ++slice) {
            noise_of(35, uint32_t(slice), 0, made.data(), each);
            for (size_t i = 0; i < each; ++i)
                if (!(std::abs(made[i] - ask.noise[slice * each + i]) < 1e-6)) throw std::runtime_error("golden: other noise");
        }
    }
    const Answer answer = engine(ask);
    if (answer.labels.size() != expected.values.size() || answer.uncertainty.size() != surprise.values.size())
        throw std::runtime_error("golden: an answer of another size than its image");
    size_t wrong = 0;
    for (size_t i = 0; i < expected.values.size(); ++i) {
        wrong += answer.labels[i] != expected.values[i];
        if (!(std::abs(answer.uncertainty[i] - surprise.values[i]) < 1e-3)) throw std::runtime_error("golden: other uncertainty");
    }
    if (double(wrong) > 1e-4 * double(expected.values.size())) throw std::runtime_error("golden: other labels");
}

}  // namespace verdiff

// pipeline.onnx on ONNX Runtime's CPU provider.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <onnxruntime_cxx_api.h>

#include "verdiff.hpp"

namespace verdiff {

inline Engine onnxruntime_engine(const std::string& graph) {
    if (OrtGetApiBase()->GetApi(ORT_API_VERSION) == nullptr)
        throw std::runtime_error("ONNX Runtime " + std::string(OrtGetApiBase()->GetVersionString()) +
                                 " is older than the headers of this program, which are of 1." + std::to_string(ORT_API_VERSION));
    Ort::SessionOptions options;
    // Named, or ONNX Runtime would bind its threads to cores of its own choice.
    options.SetIntraOpNumThreads(int(std::max(1u, std::thread::hardware_concurrency())));
    struct Held {
        Ort::Env env{ORT_LOGGING_LEVEL_ERROR, "verdiff"};
        Ort::Session session{nullptr};  // goes before its environment
    };
    auto held = std::make_shared<Held>();
    held->session = Ort::Session(held->env, graph.data(), graph.size(), options);
    bool samples = false;
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < held->session.GetInputCount(); ++i)
        samples = samples || std::string(held->session.GetInputNameAllocated(i, allocator).get()) == "noise";
    return [held, samples](const Question& ask) {
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        std::vector<const char*> names;
        std::vector<Ort::Value> inputs;
        auto set = [&](const char* name, std::vector<int64_t> shape, const auto& values) {
            using T = std::decay_t<decltype(values[0])>;
            names.push_back(name);
            inputs.push_back(Ort::Value::CreateTensor<T>(memory, const_cast<T*>(values.data()), values.size(), shape.data(), shape.size()));
        };
        set("slices", {ask.N, ask.h, ask.w}, ask.slices);
        set("bounds", {2}, ask.bounds);
        set("size", {2}, ask.size);
        if (samples) set("noise", {ask.M, ask.N, ask.K, ask.H, ask.W}, ask.noise);
        const char* wanted[] = {"labels", "uncertainty"};
        const auto found = held->session.Run(Ort::RunOptions{nullptr}, names.data(), inputs.data(), names.size(), wanted, 2);
        auto numbers = [&](int i, auto kind) {
            const auto* first = found[i].GetTensorData<decltype(kind)>();
            return std::vector<decltype(kind)>(first, first + found[i].GetTensorTypeAndShapeInfo().GetElementCount());
        };
        return Answer{numbers(0, uint8_t()), numbers(1, float())};
    };
}

}  // namespace verdiff

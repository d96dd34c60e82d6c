// pipeline.onnx on OpenVINO's CPU device.
#pragma once

#include <memory>
#include <string>

#include <openvino/openvino.hpp>

#include "verdiff.hpp"

namespace verdiff {

// Without the hint OpenVINO computes in BF16 where the processor can, and the masks are no longer the model's own.
inline Engine openvino_engine(const std::string& graph) {
    ov::Core core;
    const auto model = core.read_model(graph, ov::Tensor());
    bool samples = false;
    for (const auto& input : model->inputs()) samples = samples || input.get_any_name() == "noise";
    auto compiled = core.compile_model(model, "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = std::make_shared<ov::InferRequest>(compiled.create_infer_request());
    return [request, samples](const Question& ask) {
        auto set = [&](const char* name, ov::Shape shape, const auto& values) {
            using T = std::decay_t<decltype(values[0])>;
            request->set_tensor(name, ov::Tensor(ov::element::from<T>(), shape, const_cast<T*>(values.data())));
        };
        auto dims = [](auto... sizes) { return ov::Shape{size_t(sizes)...}; };
        set("slices", dims(ask.N, ask.h, ask.w), ask.slices);
        set("bounds", {2}, ask.bounds);
        set("size", {2}, ask.size);
        if (samples) set("noise", dims(ask.M, ask.N, ask.K, ask.H, ask.W), ask.noise);
        request->infer();
        const ov::Tensor labels = request->get_tensor("labels"), uncertainty = request->get_tensor("uncertainty");
        return Answer{{labels.data<uint8_t>(), labels.data<uint8_t>() + labels.get_size()},
                      {uncertainty.data<float>(), uncertainty.data<float>() + uncertainty.get_size()}};
    };
}

}  // namespace verdiff

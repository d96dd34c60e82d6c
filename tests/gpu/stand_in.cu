// The tiny model of tests/runtime/tiny_bundle.py in CUDA C: where no TensorRT loads, the device path runs on this.

#define HERE ((long long)blockIdx.x * blockDim.x + threadIdx.x)

__device__ float smooth(const float* map, int row, int col, int rows, int cols)
{
    float total = 0.0f;
    for (int i = -1; i <= 1; ++i)
        for (int j = -1; j <= 1; ++j)
            if (row + i >= 0 && row + i < rows && col + j >= 0 && col + j < cols)
                total += map[(row + i) * cols + col + j] * (float)(1.0 / 9.0);
    return total;
}

// image[batch][rows][cols] -> prior[batch][3][rows][cols], feature[batch][rows][cols]
extern "C" __global__ void tiny_prior(float* prior, float* feature, const float* image, int batch, int rows, int cols)
{
    long long thread = HERE, pixels = (long long)rows * cols;
    if (thread >= batch * pixels) return;
    long long slice = thread / pixels, pixel = thread % pixels;
    const float thresholds[3] = {0.2f, 0.0f, -0.6f}, gains[3] = {6.0f, 2.0f, -6.0f};
    float value = smooth(image + slice * pixels, (int)(pixel / cols), (int)(pixel % cols), rows, cols);
    feature[thread] = value;
    for (int k = 0; k < 3; ++k) prior[(slice * 3 + k) * pixels + pixel] = tanhf(gains[k] * (value - thresholds[k]));
}

// One step with the sampler's update in it, as an engine has it. spoiled: the timestep at which a NaN comes out.
extern "C" __global__ void tiny_step(float* x_next, float* x0hat, const float* x, const float* timestep, const float* prior,
                                     const float* feature, const float* row, const float* noise, const float* previous,
                                     float spoiled, int batch, int rows, int cols)
{
    long long thread = HERE, pixels = (long long)rows * cols;
    if (thread >= batch * 3 * pixels) return;
    long long entry = thread / pixels / 3, pixel = thread % pixels;
    int i = (int)(pixel / cols), j = (int)(pixel % cols);
    float total = 0.0f;
    for (int di = -1; di <= 1; ++di)
        for (int dj = -1; dj <= 1; ++dj)
            if (i + di >= 0 && i + di < rows && j + dj >= 0 && j + dj < cols) {
                long long there = thread + di * cols + dj, on = entry * pixels + pixel + di * cols + dj;
                total += (0.9f * prior[there] + 0.3f * x[there] + 0.2f * feature[on]) * (float)(1.0 / 9.0);
            }
    float answer = tanhf(3.0f * (1.0f - timestep[entry] * 5e-4f) * total);
    if (thread == 0 && timestep[0] == spoiled) answer = 0.0f / 0.0f;
    x0hat[thread] = answer;
    x_next[thread] = row[0] * x[thread] + row[1] * answer + row[2] * prior[thread] + row[3] * noise[thread] + row[4] * previous[thread];
}

// What the device path computes beside the networks. CUDA C for NVRTC; CLASSES is defined when it is compiled.
//
// The arithmetic is verdiff.diffusion's, term by term and in its order, and is compiled without fused multiply-add: the
// start, the mean of the samples and the labels are the host's bit for bit; logarithms differ in their last place.
// One thread a pixel or a value; threads past the end return.

typedef unsigned int word;
typedef unsigned long long wide;

#define HERE ((long long)blockIdx.x * blockDim.x + threadIdx.x)
#define SMALLEST 1.1754943508222875e-38f

// ---- noise: verdiff.diffusion.noise ---------------------------------------------------------------------------------

struct Words { word w[4]; };

__device__ Words philox4x32(Words counter, word key0, word key1)
{
    Words c = counter;
    for (int round = 0; round < 10; ++round) {
        wide p0 = (wide)c.w[0] * 0xD2511F53u, p1 = (wide)c.w[2] * 0xCD9E8D57u;
        Words next = {{(word)(p1 >> 32) ^ c.w[1] ^ key0, (word)p1, (word)(p0 >> 32) ^ c.w[3] ^ key1, (word)p0}};
        c = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

// Standard normals out[batch][size] of one step. Entry e is pair e of sample and slice, slices first; entries past the
// last pair repeat it.
extern "C" __global__ void philox_normal(float* out, word key0, word key1, word step, int first_slice, int slices,
                                         int first_sample, int pairs, int batch, int size)
{
    int blocks = (size + 3) / 4;
    long long thread = HERE;
    if (thread >= (long long)blocks * batch) return;
    int entry = (int)(thread / blocks), block = (int)(thread % blocks);
    int pair = entry < pairs ? entry : pairs - 1;
    Words counter = {{(word)block, (word)(first_slice + pair % slices), (word)(first_sample + pair / slices), step}};
    Words random = philox4x32(counter, key0, key1);
    float normals[4];
    for (int half = 0; half < 2; ++half) {
        double u = (random.w[2 * half] + 0.5) * 2.3283064365386963e-10, v = (random.w[2 * half + 1] + 0.5) * 2.3283064365386963e-10;
        double radius = sqrt(-2.0 * log(u)), angle = 6.283185307179586 * v;
        normals[2 * half] = (float)(radius * cos(angle));
        normals[2 * half + 1] = (float)(radius * sin(angle));
    }
    for (int i = 0; i < 4 && 4 * block + i < size; ++i) out[(long long)entry * size + 4 * block + i] = normals[i];
}

// ---- the loop: verdiff.diffusion.loop -------------------------------------------------------------------------------

// x = on[0] f + on[1] z
extern "C" __global__ void start(float* x, const float* prior, const float* noise, const float* on, int count)
{
    long long i = HERE;
    if (i < count) x[i] = on[0] * prior[i] + on[1] * noise[i];
}

// flag[0] becomes 1 where any value is NaN or infinite; every writer writes the same.
extern "C" __global__ void mark_non_finite(int* flag, const float* values, int count)
{
    long long i = HERE;
    if (i < count && !(fabsf(values[i]) <= 3.4028234663852886e38f)) flag[0] = 1;
}

// ---- fusion: verdiff.diffusion.fusion -------------------------------------------------------------------------------

__device__ float p_log_p(float p) { return logf(p > SMALLEST ? p : SMALLEST) * p; }

__device__ float clip(float p) { return p < 0.0f ? 0.0f : p > 1.0f ? 1.0f : p; }

// p = (mean of the samples + 1) / 2; `stride` floats lie between one sample and the next.
__device__ float mean_probability(const float* sample, long long stride, int members)
{
    float p = sample[0];
    for (int m = 1; m < members; ++m) p += sample[m * stride];
    p *= (float)(0.5 / members);
    p += 0.5f;
    return clip(p);
}

__device__ float entropy(const float* p)
{
    float most = p[0];
    for (int k = 1; k < CLASSES; ++k) most = p[k] > most ? p[k] : most;
    float total = 1.0f - most, weighted = p_log_p(total);
    for (int k = 0; k < CLASSES; ++k) {
        total += p[k];
        weighted += p_log_p(p[k]);
    }
    weighted /= total;
    return clip((logf(total) - weighted) / (float)log(CLASSES + 1.0));
}

__device__ float spread_of(const float* sample, long long stride, int members, int pixels)
{
    float most = 0.0f;
    if (members == 1) return most;
    for (int k = 0; k < CLASSES; ++k) {
        const float* at = sample + (long long)k * pixels;
        float mean = at[0], squares = 0.0f;
        for (int m = 1; m < members; ++m) mean += at[m * stride];
        mean /= (float)members;
        for (int m = 0; m < members; ++m) squares += (at[m * stride] - mean) * (at[m * stride] - mean);
        most = squares > most ? squares : most;
    }
    return sqrtf(most / (float)members) * 0.5f;
}

__device__ void answer(const float* p, float* probabilities, float* uncertainty, long long slice, int pixel, int pixels)
{
    for (int k = 0; k < CLASSES; ++k) probabilities[(slice * CLASSES + k) * pixels + pixel] = p[k];
    uncertainty[slice * pixels + pixel] = entropy(p);
}

// samples[members][slices][CLASSES][pixels] -> probabilities, uncertainty, spread of every slice: fuse_mean.
extern "C" __global__ void fuse_mean(float* probabilities, float* uncertainty, float* spread, const float* samples,
                                     int members, int slices, int pixels)
{
    long long thread = HERE;
    if (thread >= (long long)slices * pixels) return;
    long long slice = thread / pixels, stride = (long long)slices * CLASSES * pixels;
    int pixel = (int)(thread % pixels);
    const float* here = samples + slice * CLASSES * pixels + pixel;
    float p[CLASSES];
    for (int k = 0; k < CLASSES; ++k) p[k] = mean_probability(here + (long long)k * pixels, stride, members);
    answer(p, probabilities, uncertainty, slice, pixel, pixels);
    spread[thread] = spread_of(here, stride, members, pixels);
}

// The doubt that weighs a step: binary entropy in bits, or as published -p ln p with p not below 0.001.
__device__ float doubt_of(float p, int published)
{
    if (published) {
        float floored = p > 0.001f ? p : 0.001f;
        return -floored * logf(floored);
    }
    float doubt = p_log_p(p);
    doubt += p_log_p(1.0f - p);
    return doubt / (float)-0.6931471805599453;
}

// The same from samples[rows][...], `row` floats apart: fuse_steps over the rows first ... rows - 1.
extern "C" __global__ void fuse_steps(float* probabilities, float* uncertainty, float* spread, const float* samples,
                                      int members, int slices, int pixels, wide row, int first, int rows, int published)
{
    long long thread = HERE;
    if (thread >= (long long)slices * pixels) return;
    long long slice = thread / pixels, stride = (long long)slices * CLASSES * pixels;
    int pixel = (int)(thread % pixels);
    const float* here = samples + slice * CLASSES * pixels + pixel;
    float fused[CLASSES];
    for (int k = 0; k < CLASSES; ++k) {
        float total = 0.0f, weights = 0.0f;
        for (int i = first; i < rows; ++i) {
            float p = mean_probability(here + (long long)i * row + (long long)k * pixels, stride, members);
            float sure = (1.0f - doubt_of(p, published)) * (float)(1.0 / (1.0 + exp(-(i + 1.0) / rows)));
            float weight = expf(sure);
            weights += weight;
            total += weight * p;
        }
        fused[k] = clip(total / weights);
    }
    answer(fused, probabilities, uncertainty, slice, pixel, pixels);
    spread[thread] = spread_of(here + (long long)(rows - 1) * row, stride, members, pixels);
}

// ---- between a host's pixels and the model's: verdiff.imaging ---------------------------------------------------------

// A weight matrix [out][in] of verdiff.imaging.resample; the weights of output i are not zero in from[2 i] ... from[2 i + 1] - 1.

// planes[slices][rows][cols] of any intensity -> image[slices][high][wide_], -1 beyond the model's own rows and columns.
extern "C" __global__ void to_model(float* image, const float* planes, const float* by_row, const int* row_range,
                                    const float* by_col, const int* col_range, float low, float gain, int slices, int rows,
                                    int cols, int model_rows, int model_cols, int padded_rows, int padded_cols)
{
    long long thread = HERE;
    if (thread >= (long long)slices * padded_rows * padded_cols) return;
    int j = (int)(thread % padded_cols), i = (int)(thread / padded_cols % padded_rows);
    const float* plane = planes + thread / padded_cols / padded_rows * rows * cols;
    float total = -1.0f;
    if (i < model_rows && j < model_cols) {
        total = 0.0f;
        for (int r = row_range[2 * i]; r < row_range[2 * i + 1]; ++r) {
            float line = 0.0f;
            for (int c = col_range[2 * j]; c < col_range[2 * j + 1]; ++c) {
                float value = (plane[(long long)r * cols + c] - low) * gain - 1.0f;
                value = value < -1.0f ? -1.0f : value > 1.0f ? 1.0f : value;
                line += by_col[(long long)j * cols + c] * value;
            }
            total += by_row[(long long)i * rows + r] * line;
        }
    }
    image[thread] = total;
}

__device__ float resampled(const float* map, const float* by_row, const int* row_range, const float* by_col,
                           const int* col_range, int i, int j, int model_rows, int model_cols, int padded_cols)
{
    float total = 0.0f;
    for (int r = row_range[2 * i]; r < row_range[2 * i + 1]; ++r) {
        float line = 0.0f;
        for (int c = col_range[2 * j]; c < col_range[2 * j + 1]; ++c)
            line += by_col[(long long)j * model_cols + c] * map[(long long)r * padded_cols + c];
        total += by_row[(long long)i * model_rows + r] * line;
    }
    return total;
}

// The fused maps in the host's pixels, and the labels: ids[0] is the background.
extern "C" __global__ void from_model(unsigned char* labels, float* probabilities, float* uncertainty, const float* fused,
                                      const float* doubt, const unsigned char* ids, const float* by_row,
                                      const int* row_range, const float* by_col, const int* col_range, int slices, int rows,
                                      int cols, int model_rows, int model_cols, int padded_rows, int padded_cols)
{
    long long thread = HERE;
    if (thread >= (long long)slices * rows * cols) return;
    int j = (int)(thread % cols), i = (int)(thread / cols % rows);
    long long slice = thread / cols / rows, pixels = (long long)padded_rows * padded_cols;
    float best = 0.5f;
    int label = 0;
    for (int k = 0; k < CLASSES; ++k) {
        float p = resampled(fused + (slice * CLASSES + k) * pixels, by_row, row_range, by_col, col_range, i, j,
                            model_rows, model_cols, padded_cols);
        probabilities[((slice * CLASSES + k) * rows + i) * cols + j] = p;
        if (p > best) {
            best = p;
            label = k + 1;
        }
    }
    labels[thread] = ids[label];
    uncertainty[thread] = clip(resampled(doubt + slice * pixels, by_row, row_range, by_col, col_range, i, j, model_rows,
                                         model_cols, padded_cols));
}

// NVIDIA's driver library as far as verdiff and cuda-core ask for it, on the processor: kernels are the CUDA C text
// compiled for it, streams run at once unless they capture, graphs replay. Included after the kernels, whose table
// `KERNELS` tests/runtime/device/libcuda.py writes.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <mutex>

typedef int Result;
typedef unsigned long long Address;
typedef std::function<void()> Work;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_CONTEXT = 201, NOT_FOUND = 500, NOT_SUPPORTED = 801,
       CAPTURE_UNSUPPORTED = 900, NOT_CAPTURING = 904 };
// What verdiff is to ask for, and nothing else is taken: streams that do not wait for the default one, events without
// timing whose wait sleeps, the attribute that says whose memory a pointer is.
enum { NON_BLOCKING = 1, SLEEPING_WITHOUT_TIMING = 1 | 2, DEVICE_ORDINAL = 9 };

struct Graph { std::vector<Work> work; };
struct Stream { int priority; unsigned flags; Graph* capture; };
struct Kernel { std::string name; };
struct Config { unsigned grid[3], block[3], shared; void* stream; void* attributes; unsigned count; };
struct Instantiation { Address flags; void *upload, *failed; int result; };

static const size_t TOTAL = 8ull << 30, ALIGNMENT = 512;
static void* const PRIMARY = (void*)0xC0DA;
static std::recursive_mutex guard;
static std::map<Address, size_t> memory;
static size_t taken = 0;
static Stream default_stream{0, 0, nullptr};
static thread_local std::vector<void*> contexts;

#define LOCKED std::lock_guard<std::recursive_mutex> locked(guard)
#define CUDA extern "C" __attribute__((visibility("default"))) Result
#define NEEDS_CONTEXT if (contexts.empty()) return NO_CONTEXT

static thread_local int capture_mode = 0;
static Stream& stream_of(void* handle) { return (Address)handle <= 2 ? default_stream : *(Stream*)handle; }

static Result put(void* handle, Work work)
{
    LOCKED;
    NEEDS_CONTEXT;
    Stream& stream = stream_of(handle);
    if (stream.capture) stream.capture->work.push_back(work);
    else work();
    return SUCCESS;
}

// ---- the device and its context --------------------------------------------------------------------------------------

CUDA cuInit(unsigned) { return SUCCESS; }
CUDA cuDriverGetVersion(int* version) { *version = 13000; return SUCCESS; }
CUDA cuDeviceGetCount(int* count) { *count = 1; return SUCCESS; }
CUDA cuDeviceGet(int* device, int ordinal) { *device = ordinal; return SUCCESS; }
CUDA cuDeviceGetName(char* name, int size, int) { snprintf(name, size, "Processor"); return SUCCESS; }
CUDA cuDeviceGetAttribute(int* value, int which, int) { *value = which == 75 ? 9 : which == 76 ? 0 : 1; return SUCCESS; }
CUDA cuDeviceTotalMem_v2(size_t* total, int) { *total = TOTAL; return SUCCESS; }
CUDA cuDeviceGetPCIBusId(char* id, int size, int) { snprintf(id, size, "0000:00:00.0"); return SUCCESS; }
CUDA cuDevicePrimaryCtxRetain(void** context, int) { *context = PRIMARY; return SUCCESS; }
CUDA cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { *flags = 0; *active = 1; return SUCCESS; }
CUDA cuThreadExchangeStreamCaptureMode(int* mode) { std::swap(*mode, capture_mode); return SUCCESS; }
CUDA cuCtxGetCurrent(void** context) { *context = contexts.empty() ? nullptr : contexts.back(); return SUCCESS; }
CUDA cuCtxPushCurrent_v2(void* context) { contexts.push_back(context); return SUCCESS; }
CUDA cuCtxPopCurrent_v2(void** context)
{
    NEEDS_CONTEXT;
    if (context) *context = contexts.back();
    contexts.pop_back();
    return SUCCESS;
}
CUDA cuCtxGetDevice(int* device) { NEEDS_CONTEXT; *device = 0; return SUCCESS; }

// ---- memory ----------------------------------------------------------------------------------------------------------

CUDA cuMemGetInfo_v2(size_t* free, size_t* total) { LOCKED; *free = TOTAL - taken; *total = TOTAL; return SUCCESS; }
CUDA cuMemAlloc_v2(Address* pointer, size_t size)
{
    LOCKED;
    NEEDS_CONTEXT;
    if (taken + size > TOTAL) return OUT_OF_MEMORY;
    *pointer = (Address)aligned_alloc(ALIGNMENT, (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    memset((void*)*pointer, 0xFF, size);
    memory[*pointer] = size;
    taken += size;
    return SUCCESS;
}
CUDA cuMemFree_v2(Address pointer)
{
    LOCKED;
    NEEDS_CONTEXT;
    if (!memory.count(pointer)) return INVALID_VALUE;
    taken -= memory[pointer];
    memory.erase(pointer);
    free((void*)pointer);
    return SUCCESS;
}
CUDA cuPointerGetAttribute(void* value, int which, Address pointer)
{
    LOCKED;
    if (which != DEVICE_ORDINAL) return NOT_SUPPORTED;
    auto after = memory.upper_bound(pointer);
    if (after == memory.begin()) return INVALID_VALUE;
    auto block = std::prev(after);
    if (pointer >= block->first + block->second) return INVALID_VALUE;
    *(int*)value = 0;
    return SUCCESS;
}
CUDA cuMemAllocHost_v2(void** pointer, size_t size) { NEEDS_CONTEXT; *pointer = malloc(size); return SUCCESS; }
CUDA cuMemFreeHost(void* pointer) { NEEDS_CONTEXT; free(pointer); return SUCCESS; }
CUDA cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t size, void* stream)
{
    return put(stream, [=] { memcpy((void*)to, from, size); });
}
CUDA cuMemcpyDtoHAsync_v2(void* to, Address from, size_t size, void* stream)
{
    return put(stream, [=] { memcpy(to, (void*)from, size); });
}
CUDA cuMemcpyDtoDAsync_v2(Address to, Address from, size_t size, void* stream)
{
    return put(stream, [=] { memmove((void*)to, (void*)from, size); });
}
CUDA cuMemsetD8Async(Address to, unsigned char value, size_t size, void* stream)
{
    return put(stream, [=] { memset((void*)to, value, size); });
}

// ---- streams and events ----------------------------------------------------------------------------------------------

CUDA cuStreamCreateWithPriority(void** stream, unsigned flags, int priority)
{
    NEEDS_CONTEXT;
    if (flags != NON_BLOCKING) return INVALID_VALUE;
    *stream = new Stream{priority, flags, nullptr};
    return SUCCESS;
}
CUDA cuStreamDestroy_v2(void* stream) { delete (Stream*)stream; return SUCCESS; }
CUDA cuStreamSynchronize(void* stream) { return stream_of(stream).capture ? CAPTURE_UNSUPPORTED : SUCCESS; }
CUDA cuStreamGetPriority(void* stream, int* priority) { *priority = stream_of(stream).priority; return SUCCESS; }
CUDA cuStreamGetFlags(void* stream, unsigned* flags) { *flags = stream_of(stream).flags; return SUCCESS; }
CUDA cuStreamGetCtx(void*, void** context) { *context = PRIMARY; return SUCCESS; }
CUDA cuStreamWaitEvent(void*, void*, unsigned) { NEEDS_CONTEXT; return SUCCESS; }
CUDA cuEventCreate(void** event, unsigned flags)
{
    NEEDS_CONTEXT;
    if (flags != SLEEPING_WITHOUT_TIMING) return INVALID_VALUE;
    *event = malloc(1);
    return SUCCESS;
}
CUDA cuEventQuery(void*) { NEEDS_CONTEXT; return SUCCESS; }
CUDA cuEventDestroy_v2(void* event) { free(event); return SUCCESS; }
CUDA cuEventRecord(void*, void*) { NEEDS_CONTEXT; return SUCCESS; }
CUDA cuEventSynchronize(void*) { NEEDS_CONTEXT; return SUCCESS; }

// ---- graphs ----------------------------------------------------------------------------------------------------------

CUDA cuStreamBeginCapture_v2(void* stream, int)
{
    if ((Address)stream <= 2 || stream_of(stream).capture) return CAPTURE_UNSUPPORTED;
    stream_of(stream).capture = new Graph;
    return SUCCESS;
}
CUDA cuStreamEndCapture(void* stream, void** graph)
{
    Stream& its = stream_of(stream);
    if (!its.capture) return NOT_CAPTURING;
    // cuda-core took the graph from cuStreamGetCaptureInfo already, and may not want it here.
    if (graph) *graph = its.capture;
    its.capture = nullptr;
    return SUCCESS;
}
CUDA cuStreamGetCaptureInfo_v3(void* stream, int* status, Address* id, void** graph, const void*** dependencies,
                               const void** edges, size_t* count)
{
    *status = stream_of(stream).capture != nullptr;
    if (id) *id = 1;
    if (graph) *graph = stream_of(stream).capture;
    if (dependencies) *dependencies = nullptr;
    if (edges) *edges = nullptr;
    if (count) *count = 0;
    return SUCCESS;
}
CUDA cuGraphInstantiateWithParams(void** executable, void* graph, Instantiation* parameters)
{
    *executable = new Graph(*(Graph*)graph);
    parameters->result = 0;
    return SUCCESS;
}
CUDA cuGraphLaunch(void* executable, void* stream)
{
    Graph* graph = (Graph*)executable;
    return put(stream, [=] { for (Work& work : graph->work) work(); });
}
// What a graph must keep alive; nothing goes here while it is used.
CUDA cuUserObjectCreate(void** object, void*, void*, unsigned, unsigned) { *object = PRIMARY; return SUCCESS; }
CUDA cuUserObjectRelease(void*, unsigned) { return SUCCESS; }
CUDA cuGraphRetainUserObject(void*, void*, unsigned, unsigned) { return SUCCESS; }
CUDA cuGraphReleaseUserObject(void*, void*, unsigned) { return SUCCESS; }
CUDA cuGraphExecDestroy(void* executable) { delete (Graph*)executable; return SUCCESS; }
CUDA cuGraphDestroy(void* graph) { delete (Graph*)graph; return SUCCESS; }

// ---- kernels ---------------------------------------------------------------------------------------------------------

CUDA cuLibraryLoadData(void** library, const void*, void*, void*, unsigned, void*, void*, unsigned)
{
    *library = malloc(1);
    return SUCCESS;
}
CUDA cuLibraryUnload(void* library) { free(library); return SUCCESS; }
CUDA cuLibraryGetKernel(void** kernel, void*, const char* name)
{
    if (!KERNELS.count(name)) return NOT_FOUND;
    *kernel = new Kernel{name};
    return SUCCESS;
}
CUDA cuLaunchKernelEx(const Config* config, void* kernel, void** given, void**)
{
    const Entry entry = KERNELS[((Kernel*)kernel)->name];
    const long long blocks = config->grid[0];
    const int threads = (int)config->block[0];
    // What a launch is given is read at once, as by a driver; a captured one keeps it.
    std::vector<std::vector<char>> kept;
    for (size_t i = 0; i < entry.sizes.size(); ++i) {
        const char* value = (const char*)given[i];
        kept.emplace_back(value, value + entry.sizes[i]);
    }
    return put(config->stream, [=]() mutable {
        std::vector<void*> values;
        for (auto& value : kept) values.push_back(value.data());
        entry.run(blocks, threads, values.data());
    });
}

// ---- errors, and how the bindings find all this ----------------------------------------------------------------------

CUDA cuGetErrorName(int code, const char** name)
{
    *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == NO_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT"
            : code == NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED" : "CUDA_ERROR_INVALID_VALUE";
    return SUCCESS;
}
CUDA cuGetErrorString(int, const char** text) { *text = "from a driver that is none"; return SUCCESS; }
CUDA cuGetExportTable(const void** table, const void*) { *table = nullptr; return NOT_FOUND; }

static Result not_supported() { return NOT_SUPPORTED; }

CUDA cuGetProcAddress_v2(const char* symbol, void** function, int, Address, int* status)
{
    static void* self = dlopen("libcuda.so.1", RTLD_NOW);
    *function = nullptr;
    for (const char* version : {"_v3", "_v2", ""})
        if (!*function) *function = dlsym(self, (std::string(symbol) + version).c_str());
    if (!*function) *function = (void*)not_supported;
    if (status) *status = 0;
    return SUCCESS;
}

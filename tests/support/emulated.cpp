// Runs entry points on arguments read from a file: emulated FILE. Each line of its input is one call: ENTRY [SOURCE
// LINE]. A buffer lies in an allocation of its own, so that a sanitizer sees every access beyond it, or where it lies
// in a tensor that several share, so that its alignment is that of a real call. Changed buffers are written back to the
// file. It runs the emu build, in which the barrier at SOURCE LINE can be left out, and prints the places of all
// barriers met, a line each. With MB_WARPS it runs the code for the GPU, a fiber a lane, without __syncwarp if there is
// a second word. An empty line says that the call is done; an error that a sanitizer finds ends the process.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#ifdef MB_WARPS
#include "warps.h"

#include "device.cu"
#else
#include "host.cpp"
#endif

namespace {

constexpr std::size_t alignment_bytes = 64;  // of torch's tensors; on a GPU they have 512
constexpr unsigned most_seconds = 60;        // that a call may take

struct Buffer {
    void* data;
    int64_t bytes;
};
std::vector<Buffer> buffers;
std::map<int64_t, void*> tensors;  // by their number in the file

int64_t read_number(FILE* file) {
    int64_t number = 0;
    if (fread(&number, sizeof number, 1, file) != 1) std::exit(3);
    return number;
}

// The address of a buffer as a number; 0 for null, which has a size of -1 in the file.
int64_t read_buffer(FILE* file) {
    const int64_t bytes = read_number(file);
    if (bytes < 0) return 0;
    const int64_t tensor = read_number(file), tensor_bytes = read_number(file), first_byte = read_number(file);
    void*& whole = tensors[tensor];
    if (!whole && posix_memalign(&whole, alignment_bytes, static_cast<size_t>(tensor_bytes)) != 0) std::exit(3);
    void* data = static_cast<char*>(whole) + first_byte;
    if (fread(data, 1, static_cast<size_t>(bytes), file) != static_cast<size_t>(bytes)) std::exit(3);
    buffers.push_back({data, bytes});
    return reinterpret_cast<int64_t>(data);
}

void run(const char* name, const Arguments& a) {
#ifdef MB_WARPS
#define MB_ENTRY(entry, items) \
    if (std::strcmp(name, "mb_" #entry) == 0) return launch(mb_##entry, a, items);
#else
#define MB_ENTRY(entry, items) \
    if (std::strcmp(name, "mb_" #entry) == 0) return mb_##entry(&a);
#endif
#ifdef MB_DENSE
    MB_AROUND_ENTRIES
#else
    MB_ENTRIES
#endif
#undef MB_ENTRY
#ifdef MB_DENSE
#define MB_ENTRY(entry) \
    if (std::strcmp(name, "mb_" #entry) == 0) return mb_##entry(&a);
    MB_DENSE_ENTRIES
#undef MB_ENTRY
#endif
    std::exit(4);
}

void call(const std::string& request, const char* path) {
    std::string entry, source;
    int line = 0;
    std::istringstream(request) >> entry >> source >> line;
    buffers.clear();
    tensors.clear();
    FILE* file = std::fopen(path, "rb");
    int64_t fields[sizeof(Arguments) / sizeof(int64_t)];  // sizes, then buffers
    const int64_t num_sizes = read_number(file);
    for (int64_t& field : fields) field = &field - fields < num_sizes ? read_number(file) : read_buffer(file);
    Arguments arguments;
    std::memcpy(&arguments, fields, sizeof arguments);
    std::fclose(file);
#ifdef MB_WARPS
    without_syncwarp = !source.empty();
#else
    shared_bytes = arguments.shared_bytes;
    skipped_barrier = {source.c_str(), line};
    barriers_met.clear();
#endif
    run(entry.c_str(), arguments);
    file = std::fopen(path, "wb");
    for (const Buffer& buffer : buffers) std::fwrite(buffer.data, 1, static_cast<size_t>(buffer.bytes), file);
    for (const auto& tensor : tensors) std::free(tensor.second);
    std::fclose(file);
#ifndef MB_WARPS
    for (const BarrierSite& site : barriers_met) std::cout << site.file << ' ' << site.line << '\n';
#endif
    std::cout << std::endl;
}

}  // namespace

int main(int count, char** words) {
    if (count != 2) return 2;
    for (std::string request; std::getline(std::cin, request);) {
        alarm(most_seconds);
        call(request, words[1]);
        alarm(0);
    }
}

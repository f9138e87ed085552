// Runs one entry point on arguments read from a file, each buffer in memory of its own, so that a sanitizer sees every access beyond it:
// emulated ENTRY FILE [SOURCE LINE]. Changed buffers go back to the file. It runs the emu build, in which the barrier at a place can be left out,
// and prints the places of all barriers met; with MB_WARPS the text for the GPU, a thread a lane, without __syncwarp if a third word is there.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#ifdef MB_WARPS
#include "warps.h"

#include "device.cu"
#else
#include "host.cpp"
#endif

namespace {

struct Buffer {
    void* data;
    int64_t bytes;
};
std::vector<Buffer> buffers;

int64_t read_number(FILE* file) {
    int64_t number = 0;
    if (fread(&number, sizeof number, 1, file) != 1) std::exit(3);
    return number;
}

template <class T> void read_buffer(FILE* file, T*& place) {
    const int64_t bytes = read_number(file);
    place = nullptr;
    if (bytes < 0) return;
    void* data = std::malloc(static_cast<size_t>(bytes));
    if (fread(data, 1, static_cast<size_t>(bytes), file) != static_cast<size_t>(bytes)) std::exit(3);
    buffers.push_back({data, bytes});
    place = static_cast<T*>(data);
}

void run(const char* name, const Arguments& a) {
#undef ENTRY
    using entries::crews;
#ifdef MB_WARPS
#define ENTRY(entry, items) \
    if (std::strcmp(name, "mb_" #entry) == 0) return launch(mb_##entry, a, items);
#else
#define ENTRY(entry, items) \
    if (std::strcmp(name, "mb_" #entry) == 0) return mb_##entry(&a);
#endif
    MB_ENTRIES
    std::exit(4);
}

}  // namespace

int main(int count, char** words) {
    if (count < 3) return 2;
    FILE* file = std::fopen(words[2], "rb");
    Arguments arguments{};
#define SIZE(name) arguments.name = read_number(file);
#define BUFFER(name) read_buffer(file, arguments.name);
#define REAL BUFFER
#define STORE BUFFER
#define INT32 BUFFER
#define INT64 BUFFER
    MB_ARGUMENTS
    std::fclose(file);
#ifdef MB_WARPS
    without_syncwarp = count > 3;
#else
    if (count > 4) skipped_site = {words[3], std::atoi(words[4])};
#endif
    run(words[1], arguments);
    file = std::fopen(words[2], "wb");
    for (const Buffer& buffer : buffers) {
        std::fwrite(buffer.data, 1, static_cast<size_t>(buffer.bytes), file);
        std::free(buffer.data);
    }
    std::fclose(file);
#ifndef MB_WARPS
    for (const Site& site : sites_met) std::printf("%s %d\n", site.file, site.line);
#endif
}

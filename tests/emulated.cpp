// Runs one entry point of the emu build on arguments read from a file, each buffer in a block of memory of its own, so that a sanitizer sees
// every access beyond it: emulated ENTRY FILE [SOURCE LINE]. Changed buffers go back to the file. The barrier at that place is left out. Prints
// the places of all barriers met.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "arguments.h"
#include "block.h"

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

}  // namespace

int main(int count, char** words) {
    if (count < 3) return 2;
    if (count > 4) mb::skipped_site = {words[3], std::atoi(words[4])};
    FILE* file = std::fopen(words[2], "rb");
    mb::Arguments arguments{};
#define SIZE(name) arguments.name = read_number(file);
#define BUFFER(name) read_buffer(file, arguments.name);
#define REAL BUFFER
#define STORE BUFFER
#define INT32 BUFFER
#define INT64 BUFFER
    MB_ARGUMENTS
    std::fclose(file);
    const auto entry = reinterpret_cast<void (*)(const mb::Arguments*)>(dlsym(RTLD_DEFAULT, words[1]));
    if (!entry) return 4;
    entry(&arguments);
    file = std::fopen(words[2], "wb");
    for (const Buffer& buffer : buffers) {
        std::fwrite(buffer.data, 1, static_cast<size_t>(buffer.bytes), file);
        std::free(buffer.data);
    }
    std::fclose(file);
    for (const mb::Site& site : mb::sites_met) std::printf("%s %d\n", site.file, site.line);
}

// The batch elements that a block steps through time together, so that each weight is loaded once for all of them. On a
// GPU a tile is one element: blocks share a cache.
#pragma once

#include "arguments.h"
#include "block/block.h"
#include "sequence/clocks.h"

namespace mb {

// How many of the T steps an element has, and its candidate rows before the first. With MB_EQUAL_LENGTHS, the usual
// build for a GPU, all have the same: what is loaded for one element takes registers that the others spill.
MB_FN int64_t steps_of([[maybe_unused]] const Arguments& a, [[maybe_unused]] int64_t element) {
#ifndef MB_EQUAL_LENGTHS
    if (a.lengths) return a.lengths[element];
#endif
    return a.steps;
}
MB_FN bool has_step([[maybe_unused]] const Arguments& a, [[maybe_unused]] int64_t element, [[maybe_unused]] int64_t t) {
#ifndef MB_EQUAL_LENGTHS
    return t < steps_of(a, element);
#else
    return true;
#endif
}
MB_FN int64_t first_candidates_of([[maybe_unused]] const Arguments& a, [[maybe_unused]] int64_t element) {
#ifndef MB_EQUAL_LENGTHS
    if (a.counts) return a.counts[element];
#endif
    return a.num_candidates;
}

// The element at a place of a batch: with lengths the longest come first, so that those of a tile are alike.
MB_FN int64_t element_at(const Arguments& a, int64_t place) { return a.order ? a.order[place] : place; }

// Fixed-size array of the elements at places first .. first + count - 1; unused trailing entries alias the first one.
// An element alone is its place: on a GPU the addresses of all that is its own are then known to be those of the block.
template <class Element, int64_t size>
struct Elements {
    static_assert(size == 8, "");
    Element at[8];
    MB_FN Elements(const Block& block, const Arguments& a, int64_t first, int64_t count)
        : at{make(block, a, first, count, 0), make(block, a, first, count, 1), make(block, a, first, count, 2),
             make(block, a, first, count, 3), make(block, a, first, count, 4), make(block, a, first, count, 5),
             make(block, a, first, count, 6), make(block, a, first, count, 7)} {}
    MB_FN static Element make(const Block& block, const Arguments& a, int64_t first, int64_t count, int64_t i) {
        return Element(block, a, element_at(a, first + (i < count ? i : 0)));
    }
};
template <class Element>
struct Elements<Element, 1> {
    Element at[1];
    MB_FN Elements(const Block& block, const Arguments& a, int64_t first, int64_t) : at{Element(block, a, first)} {}
};

// Tiles of a batch: as few as their size allows, but a multiple of the number of threads.
MB_FN int64_t num_batch_tiles(const Arguments& a) {
    const int64_t threads = a.threads < 1 ? 1 : a.threads, fewest = (a.batch + Block::tile_size - 1) / Block::tile_size;
    const int64_t even = (fewest + threads - 1) / threads * threads;
    return even < a.batch ? even : a.batch;
}
MB_FN int64_t first_of_tile(const Arguments& a, int64_t tile) {
    return Block::tile_size == 1 ? tile : tile * a.batch / num_batch_tiles(a);
}

template <class Element>
struct BatchTile {
    const Block& block;
    const Arguments& a;
    const int64_t all;
    int64_t count;  // of the elements that are stepped now: the first ones
    Elements<Element, Block::tile_size> elements;

    // The elements at places first .. end - 1. The clocks of a tile are those of its first element.
    MB_FN BatchTile(const Block& block, const Arguments& a, int64_t first, int64_t end)
        : block(block),
          a(a),
          all(Block::tile_size == 1 ? 1 : end - first),
          count(all),
          elements(block, a, first, count) {
        for_each_element([&](Element& element) { element.clocks = elements.at[0].clocks; });
    }

    MB_FN const Clocks& clocks() const { return elements.at[0].clocks; }

    template <class F>
    MB_FN void for_each_element(F f) {
        if constexpr (Block::tile_size == 1) {
            f(elements.at[0]);  // a constant index, so that the element can live in registers
        } else {
            for (int64_t i = 0; i < count; ++i) f(elements.at[i]);
        }
    }
    // f(t) of every step, from the first to the last, with the elements that have it; in the end with all.
    template <class F>
    MB_FN void for_each_step(F f) {
        if constexpr (Block::tile_size == 1) {
            for (int64_t t = 0; t < elements.at[0].steps(); ++t) f(t);
        } else {
            int64_t t = 0;
            for (; count > 0; --count)
                for (const int64_t end = elements.at[count - 1].steps(); t < end; ++t) f(t);
            count = all;
        }
    }
    // The same from the last step to the first.
    template <class F>
    MB_FN void for_each_step_back(F f) {
        if constexpr (Block::tile_size == 1) {
            for (int64_t t = elements.at[0].steps(); t-- > 0;) f(t);
        } else {
            int64_t t = elements.at[0].steps();
            for (count = 1; count <= all; ++count)
                for (const int64_t end = count < all ? elements.at[count].steps() : 0; t > end;) f(--t);
            count = all;
        }
    }
    // Right-hand sides of a product: add(batch, element) appends one for each element.
    template <class F>
    MB_FN RhsBatch rhs_of_all(F add) {
        RhsBatch x;
        for_each_element([&](Element& element) { add(x, element); });
        return x;
    }
};

}  // namespace mb

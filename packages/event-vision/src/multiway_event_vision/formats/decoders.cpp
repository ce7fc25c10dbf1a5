// The loops that dat.py, evt2.py and evt3.py do without: the same events, the same state between blocks.

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int64_t ROUND = 4096, TOLERANCE = 256;  // of the upper time, as Unwrapper in evt3.py has them
constexpr int64_t EVT2_ROUND = 1 << 28, EVT2_TOLERANCE = 1 << 14;  // as in evt2.py
constexpr int64_t UNKNOWN = -1;
constexpr int64_t LARGEST_X = 65535;

// The slots of `state` that Python keeps between calls.
enum Slot { HIGH, LAST, ROUNDS, LOW, Y, BASE, BASE_P };

}  // namespace

// At least as many as `count` words, below 2^28, can hold events: how large the output must be. Vectors count as full,
// because counting their bits takes longer than memory that is never touched.
EXPORT int64_t evt3_max_events(const uint16_t* words, int64_t count) {
    uint32_t events = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint16_t kind = words[i] >> 12;
        events += (kind == 2) + 12 * (kind == 4) + 8 * (kind == 5);
    }
    return events;
}

// Decodes `count` words into t, x, y, p and returns the number of events, at most `evt3_max_events`; the output must
// have room for one more. Single events come as time, row, column; a turn takes all three. The time is left out now and
// then, which no processor can foresee, so it is taken without a branch.
EXPORT int64_t evt3_decode(const uint16_t* __restrict words, int64_t count, int64_t* __restrict state,
                           int64_t* __restrict t, uint16_t* __restrict x, uint16_t* __restrict y,
                           uint8_t* __restrict p) {
    int64_t high = state[HIGH], last = state[LAST], rounds = state[ROUNDS], row = state[Y];
    int64_t time = high == UNKNOWN ? state[LOW] : high * ROUND + state[LOW];
    int64_t base = state[BASE], base_p = state[BASE_P];
    int64_t events = 0;
    bool is_known = high != UNKNOWN && row != UNKNOWN;
    for (int64_t i = 0; i < count;) {
        const bool is_time = words[i] >> 12 == 6;
        time = is_time ? (time & ~(ROUND - 1)) | (words[i] & 0xFFF) : time;
        i += is_time;
        if (i == count) break;
        if (words[i] >> 12 == 0) {
            row = words[i] & 0x7FF;
            is_known = high != UNKNOWN;
            if (++i == count) break;
        }
        const unsigned word = words[i], kind = word >> 12, value = word & 0xFFF;
        if (kind == 2) {
            t[events] = time;
            x[events] = value & 0x7FF;
            y[events] = row;
            p[events] = value >> 11;
            events += is_known;
            i++;
            continue;
        }
        if (kind == 6 || kind == 0) continue;
        i++;
        if (kind == 4 || kind == 5) {
            const int width = kind == 4 ? 12 : 8;
            unsigned mask = is_known ? value & ((1u << width) - 1) : 0;
            for (; mask; mask &= mask - 1) {
                const int64_t column = base + __builtin_ctz(mask);
                t[events] = time;
                x[events] = column < LARGEST_X ? column : LARGEST_X;
                y[events] = row;
                p[events++] = base_p;
            }
            base += width;
        } else if (kind == 3) {
            base = value & 0x7FF;
            base_p = value >> 11;
        } else if (kind == 8) {
            const int64_t step = last == UNKNOWN ? 0 : (int64_t)value - last;
            if (step < -TOLERANCE) rounds++;
            else if (step >= ROUND - TOLERANCE && rounds) rounds--;
            const int64_t next = rounds * ROUND + value;
            const int64_t low = high != UNKNOWN && next != high ? 0 : time & (ROUND - 1);
            high = next;
            last = value;
            time = high * ROUND + low;
            is_known = row != UNKNOWN;
        }
    }
    const int64_t kept[] = {high, last, rounds, time & (ROUND - 1), row, base, base_p};
    for (int slot = 0; slot < 7; slot++) state[slot] = kept[slot];
    return events;
}

// Decodes `count` words into t, x, y, p, which have room for one more event than words, and returns the number of
// events. `state` is {upper time, its last value, rounds}. Every word is written as if it were an event, which spares a
// branch, and the next one overwrites it if it was none.
EXPORT int64_t evt2_decode(const uint32_t* __restrict words, int64_t count, int64_t* __restrict state,
                           int64_t* __restrict t, uint16_t* __restrict x, uint16_t* __restrict y,
                           uint8_t* __restrict p) {
    int64_t high = state[0], last = state[1], rounds = state[2];
    int64_t time = high * 64, events = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t word = words[i], kind = word >> 28;
        t[events] = time | (word >> 22 & 0x3F);
        x[events] = word >> 11 & 0x7FF;
        y[events] = word & 0x7FF;
        p[events] = kind & 1;
        events += (kind < 2) & (high != UNKNOWN);
        if (kind == 8) {
            const int64_t value = word & 0x0FFFFFFF, step = last == UNKNOWN ? 0 : value - last;
            if (step < -EVT2_TOLERANCE) rounds++;
            else if (step >= EVT2_ROUND - EVT2_TOLERANCE && rounds) rounds--;
            last = value;
            high = rounds * EVT2_ROUND + value;
            time = high * 64;
        }
    }
    state[0] = high;
    state[1] = last;
    state[2] = rounds;
    return events;
}

// Decodes `count` records of DAT version 2, a time and an address each. Returns 1 if their times never go back.
EXPORT int64_t dat_decode(const uint32_t* __restrict records, int64_t count, int64_t* __restrict t,
                          uint16_t* __restrict x, uint16_t* __restrict y, uint8_t* __restrict p) {
    uint32_t backward = 0;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t address = records[2 * i + 1];
        t[i] = records[2 * i];
        x[i] = address & 0x3FFF;
        y[i] = address >> 14 & 0x3FFF;
        p[i] = address >> 28 & 1;
    }
    for (int64_t i = 1; i < count; i++) backward |= t[i] < t[i - 1];
    return !backward;
}

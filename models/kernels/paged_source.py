"""Sources of the kernels in `paged_attention`, in the words of `portable`: bodies of functions.

D is the head size, T the type of queries, TOKENS the length of a block; SCALE, CAP, WRITE and PARTS are substituted as text.
"""

# Attention of one query token for each row, over the blocks of the row's table. A threadgroup takes G of the ALL query heads
# of a key head and a share of the row's blocks. A team of LANES threads takes a token at a time, with eight channels a
# thread. A row whose end is -1 gets zeros. `part` gets sums before the division.
ATTENTION = """
    EIGHT
    PARTS
    constexpr int LANES = D > 128 ? 32 : D > 64 ? 16 : 8, TEAMS = THREADS / LANES, AHEAD = TOKENS / TEAMS;
    constexpr int CHUNKS = (ALL + G - 1) / G;
    SHARED float tops[TEAMS], sums[TEAMS], parts[TEAMS][D];
    const int kv = keys_shape[1], width = tables_shape[1];
    const int row = GROUP_X / (kv * CHUNKS), head = GROUP_X / CHUNKS % kv, first = GROUP_X % CHUNKS * G;
    const int end = ends[row], begin = WINDOW > 0 && end >= WINDOW ? end - WINDOW + 1 : 0;
    const int low = begin / TOKENS, stop = end < 0 ? 0 : min(end / TOKENS + 1, width);
    const int share = (stop - low + GROUPS_Y - 1) / GROUPS_Y;
    const int from = low + GROUP_Y * share, to = min(stop, from + share);
    const int team = THREAD / LANES, channel = THREAD % LANES * 8;
    const bool inside = LANES * 8 == D || channel < D;
    const size_t heads = ((size_t)row * kv + head) * ALL;
    float q[G][8], out[G][8], top[G], sum[G];
    #pragma unroll
    for (int g = 0; g < G; g++) {
        Eight query;
        if (inside) LOAD(query, queries + (heads + min(first + g, ALL - 1)) * D + channel);
        for (int i = 0; i < 8; i++) {
            q[g][i] = inside ? float(query.at[i]) * SCALE * 1.4426950408889634f : 0.0f;
            out[g][i] = 0.0f;
        }
        top[g] = -1e30f;
        sum[g] = 0.0f;
    }
    int next = from < to ? tables[(size_t)row * width + from] : 0;
    for (int block = from; block < to; block++) {
        const size_t base = ((size_t)next * kv + head) * TOKENS;
        next = tables[(size_t)row * width + min(block + 1, to - 1)];
        RAW k[AHEAD], v[AHEAD];
        float scores[G][AHEAD];
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {  // all loads are in flight before the first is used
            const int token = min(max(block * TOKENS + n * TEAMS + team, begin), end) - block * TOKENS;
            if (inside) {
                FETCH(k[n], keys, base + token);
                FETCH(v[n], values, base + token);
            }
        }
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            float key[8];
            for (int i = 0; i < 8; i++) key[i] = inside ? NUMBER(k[n], i) : 0.0f;
            const int token = block * TOKENS + n * TEAMS + team;
            #pragma unroll
            for (int g = 0; g < G; g++) {
                float score = 0.0f;
                for (int i = 0; i < 8; i++) score += q[g][i] * key[i];
                for (int step = LANES / 2; step; step /= 2) score += SHUFFLE_XOR(score, step);
                if (CAP > 0.0f) score = TANH(score * (0.6931471805599453f / CAP)) * (CAP * 1.4426950408889634f);
                scores[g][n] = token < begin || token > end ? -1e30f : score;
            }
        }
        #pragma unroll
        for (int g = 0; g < G; g++) {
            float most = top[g];
            for (int n = 0; n < AHEAD; n++) most = max(most, scores[g][n]);
            if (most > top[g]) {
                const float kept = EXP2(top[g] - most);
                top[g] = most;
                sum[g] *= kept;
                for (int i = 0; i < 8; i++) out[g][i] *= kept;
            }
            for (int n = 0; n < AHEAD; n++) {
                const int token = block * TOKENS + n * TEAMS + team;
                scores[g][n] = token < begin || token > end ? 0.0f : EXP2(scores[g][n] - most);
                sum[g] += scores[g][n];
            }
        }
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            float value[8];
            for (int i = 0; i < 8; i++) value[i] = inside ? NUMBER(v[n], i) : 0.0f;
            #pragma unroll
            for (int g = 0; g < G; g++)
                for (int i = 0; i < 8; i++) out[g][i] += scores[g][n] * value[i];
        }
    }
    #pragma unroll
    for (int g = 0; g < G; g++) {
        if (inside) for (int i = 0; i < 8; i++) parts[team][channel + i] = out[g][i];
        if (THREAD % LANES == 0) {
            tops[team] = top[g];
            sums[team] = sum[g];
        }
        BARRIER;
        const int d = THREAD;
        if (d < D && first + g < ALL) {
            const size_t at = heads + first + g;
            float most = -1e30f, all = 0.0f, mixed = 0.0f;
            #pragma unroll 1
            for (int t = 0; t < TEAMS; t++) most = max(most, tops[t]);
            #pragma unroll 1
            for (int t = 0; t < TEAMS; t++) {
                const float weight = EXP2(tops[t] - most);
                all += weight * sums[t];
                mixed += weight * parts[t][d];
            }
            WRITE
        }
        BARRIER;
    }
"""
# A sink takes part in the softmax like a token without a value.
WRITE_WHOLE = """
            if (SINKS) {
                const float sink = sinks[head * ALL + first + g] * 1.4426950408889634f, highest = max(most, sink);
                mixed *= EXP2(most - highest);
                all = all * EXP2(most - highest) + EXP2(sink - highest);
            }
            attended[at * D + d] = T(all > 0.0f ? mixed / all : 0.0f);
"""
WRITE_PART = """
            const size_t place = at * GROUPS_Y + GROUP_Y;
            part[place * D + d] = mixed;
            if (d == 0) {
                measure[2 * place] = most;
                measure[2 * place + 1] = all;
            }
"""
# Joins the shares of a head's blocks: one threadgroup per head of a row.
JOIN = """
    const int splits = part_shape[2], heads = part_shape[1];
    const size_t at = GROUP_X;
    #pragma unroll 1
    for (int d = THREAD; d < D; d += JOINERS) {
        float most = -1e30f, all = 0.0f, mixed = 0.0f;
        const float sink = SINKS ? sinks[GROUP_X % heads] * 1.4426950408889634f : most;
        most = sink;
        #pragma unroll 1
        for (int s = 0; s < splits; s++) most = max(most, measure[2 * (at * splits + s)]);
        if (SINKS) all = EXP2(sink - most);
        #pragma unroll 1
        for (int s = 0; s < splits; s++) {
            const float weight = EXP2(measure[2 * (at * splits + s)] - most);
            all += weight * measure[2 * (at * splits + s) + 1];
            mixed += weight * part[(at * splits + s) * D + d];
        }
        attended[at * D + d] = T(all > 0.0f ? mixed / all : 0.0f);
    }
"""

# How eight numbers of a token are read: RAW is their type in memory.
WHOLE_PARTS = """
    #define RAW Eight
    #define FETCH(to, x, token) LOAD(to, x + (token) * D + channel)
    #define NUMBER(raw, i) float(raw.at[i])
"""
QUANTIZED_PARTS = """
    struct Raw { unsigned words[BITS / 4]; float scale, bias; };
    #define RAW Raw
    #define FETCH(to, x, token) { \\
        const size_t number = (token) * D + channel; \\
        for (int j = 0; j < BITS / 4; j++) to.words[j] = x[number * BITS / 32 + j]; \\
        to.scale = float(x##_scales[number / GROUP]); \\
        to.bias = float(x##_biases[number / GROUP]); }
    #define NUMBER(raw, i) \\
        (float(raw.words[i * BITS / 32] >> (i * BITS % 32) & ((1u << BITS) - 1)) * raw.scale + raw.bias)
"""

# Stores a head's D numbers x, of which a thread of the simdgroup has every 32nd, as the token `place` of a pool of keys or
# values: as they are, or like mx.quantize with a group of 64, whose arithmetic this repeats.
STORE_WHOLE = """
    #define STORE(to, place) \\
        for (int j = 0, lane = THREAD % 32; lane + 32 * j < D; j++) \\
            ((DEVICE T*)to)[(place) * D + lane + 32 * j] = T(x[j]);
"""
STORE_QUANTIZED = """
    #define STORE(to, place) \\
        for (int group = 0; group < D / 64; group++) { \\
            const float a = float(T(x[2 * group])), b = float(T(x[2 * group + 1])); \\
            float least = min(a, b), most = max(max(a, b), 0.0f); \\
            for (int step = 16; step; step /= 2) { \\
                least = min(least, SHUFFLE_XOR(least, step)); \\
                most = max(most, SHUFFLE_XOR(most, step)); \\
            } \\
            constexpr float levels = (1 << BITS) - 1; \\
            const bool side = -least > most; \\
            float scale = max((most - least) / levels, 1e-7f), bias = 0.0f; \\
            const float edge = side ? least : most; \\
            if (!side) scale = -scale; \\
            const float steps = round(edge / scale); \\
            if (steps != 0.0f) { \\
                scale = edge / steps; \\
                bias = edge; \\
            } \\
            for (int half = 0; half < 2; half++) { \\
                unsigned word = unsigned(min(round(((half ? b : a) - bias) / scale), levels)); \\
                word <<= THREAD % (32 / BITS) * BITS; \\
                for (int step = 1; step < 32 / BITS; step *= 2) word |= SHUFFLE_XOR(word, step); \\
                const size_t number = (place) * D + 64 * group + 32 * half + THREAD % 32; \\
                if (THREAD % (32 / BITS) == 0) ((DEVICE unsigned*)to)[number * BITS / 32] = word; \\
            } \\
            if (THREAD % 32 == 0) { \\
                ((DEVICE T*)to##_scales)[(place) * (D / 64) + group] = T(scale); \\
                ((DEVICE T*)to##_biases)[(place) * (D / 64) + group] = T(bias); \\
            } \\
        }
"""

# Puts rows of T into an array in place, each in the place of another.
STORE_ROWS = """
    const size_t size = rows_shape[1], at = (size_t)GROUP_X * THREADS + THREAD;
    if (at == 0) written[0] = 0;
    if (at < size * rows_shape[0]) ((DEVICE T*)array)[targets[at / size] * size + at % size] = rows[at];
"""

# Writes a key and a value for each token and head: one simdgroup per head of either. In place; `written` is what orders it.
STORE_TOKENS = """
    STORING
    const int kv = keys_shape[1], tokens = keys_shape[2], half = new_keys_shape[0] * kv;
    const int at = GROUP_X * (THREADS / 32) + THREAD / 32, row = at % half / kv;
    if (GROUP_X == 0 && THREAD == 0) written[0] = 0;
    if (at >= 2 * half) return;
    const size_t place = ((size_t)blocks[row] * kv + at % kv) * tokens + offsets[row];
    float x[(D + 31) / 32];
    for (int j = 0, lane = THREAD % 32; lane + 32 * j < D; j++) {
        const size_t from = (size_t)(at % half) * D + lane + 32 * j;
        x[j] = at < half ? float(new_keys[from]) : float(new_values[from]);
    }
    if (at < half) {
        STORE(keys, place)
    } else {
        STORE(values, place)
    }
"""

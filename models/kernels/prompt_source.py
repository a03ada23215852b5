"""CUDA source of the kernel in `prompt_attention`: the body of a function."""

# Flash attention over blocks of 32 tokens. A block of threads takes TOK tokens of one text and HG query heads of one key head:
# 16 rows for each warp, whose products are 16 x 8 x 16 on the tensor cores (of a product a lane has the columns 2 t and
# 2 t + 1 of the rows g and g + 8). Keys and values are copied while those before are multiplied, if both fit.
PROMPT_ATTENTION = """
    constexpr int TOK = 16 * WARPS / HG, PITCH = D + 8, STAGES = D > 128 ? 1 : 2, STEPS = D / 16, CHUNKS = D / 8;
    constexpr float LOG2E = 1.4426950408889634f;
    __shared__ alignas(16) unsigned short keys_here[STAGES][32][PITCH];
    __shared__ alignas(16) unsigned short values_here[STAGES][32][PITCH];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int text = tiles[4 * blockIdx.x], begin = tiles[4 * blockIdx.x + 1];
    const int count = tiles[4 * blockIdx.x + 2], place = tiles[4 * blockIdx.x + 3];
    const int heads = queries_shape[1], kv_heads = keys_shape[1], width = tables_shape[1];
    const int first_head = blockIdx.y * HG, kv = first_head / (heads / kv_heads);

    auto shared = [](const void* at) {
        unsigned address;
        asm("{ .reg .u64 full; cvta.to.shared.u64 full, %1; cvt.u32.u64 %0, full; }" : "=r"(address) : "l"(at));
        return address;
    };
    auto copy = [&](void* to, const void* from) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(shared(to)), "l"(from) : "memory");
    };
    auto pack = [](float low, float high) {
        unsigned both;
        if (HALF) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        return both;
    };
    auto load = [&](unsigned* to, const void* from, bool transposed) {
        if (transposed)
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared(from)) : "memory");
        else
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared(from)) : "memory");
    };
    auto multiply = [](float* sum, const unsigned* a, unsigned b0, unsigned b1) {
        if (HALF)
            asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
        else
            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    };

    int token[2], head[2];  // of a lane's two rows
    size_t from[2];
    for (int half = 0; half < 2; half++) {
        const int row = warp * 16 + g + 8 * half;
        token[half] = row % TOK;
        head[half] = first_head + row / TOK;
        from[half] = ((size_t)(begin + token[half]) * heads + head[half]) * D;
    }
    if (text < 0) {  // padding
        for (int half = 0; half < 2; half++)
            if (token[half] < count)
                for (int n = 0; n < CHUNKS; n++)
                    *reinterpret_cast<unsigned*>(attended + from[half] + 8 * n + 2 * t) = 0;
        return;
    }
    unsigned query[STEPS][4];
    for (int half = 0; half < 2; half++) {
        const bool valid = token[half] < count;
        const unsigned* words = reinterpret_cast<const unsigned*>(queries + (valid ? from[half] : 0));
        #pragma unroll
        for (int step = 0; step < STEPS; step++) {
            query[step][half] = valid ? words[8 * step + t] : 0;
            query[step][half + 2] = valid ? words[8 * step + 4 + t] : 0;
        }
    }
    auto fetch = [&](int block, int stage) {
        const size_t base = ((size_t)tables[(size_t)text * width + block] * kv_heads + kv) * 32 * D;
        for (int at = threadIdx.x; at < 32 * CHUNKS; at += 32 * WARPS) {
            const int row = at / CHUNKS, channel = at % CHUNKS * 8;
            copy(&keys_here[stage][row][channel], keys + base + row * D + channel);
            copy(&values_here[stage][row][channel], values + base + row * D + channel);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };

    float sums[CHUNKS][4], most[2], total[2];
    #pragma unroll
    for (int n = 0; n < CHUNKS; n++) for (int i = 0; i < 4; i++) sums[n][i] = 0;
    for (int half = 0; half < 2; half++) {
        most[half] = SINKS ? (float)sinks[head[half]] * LOG2E : -1e30f;
        total[half] = SINKS && t == 0 ? 1.0f : 0.0f;
    }
    const int last = (place + count - 1) / 32, first = WINDOW ? max(place - WINDOW + 1, 0) / 32 : 0;
    if (STAGES == 2) fetch(first, 0);
    for (int block = first; block <= last; block++) {
        const int stage = STAGES == 2 ? (block - first) % 2 : 0;
        if (STAGES == 1) fetch(block, 0);
        if (STAGES == 2 && block < last) {
            fetch(block + 1, 1 - stage);
            asm volatile("cp.async.wait_group 1;" ::: "memory");
        } else {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
        }
        __syncthreads();
        float scores[4][4];
        #pragma unroll
        for (int n = 0; n < 4; n++) {
            for (int i = 0; i < 4; i++) scores[n][i] = 0;
            #pragma unroll
            for (int pair = 0; pair < STEPS / 2; pair++) {
                unsigned key[4];
                load(key, &keys_here[stage][8 * n + lane % 8][32 * pair + 8 * (lane / 8)], false);
                multiply(scores[n], query[2 * pair], key[0], key[1]);
                multiply(scores[n], query[2 * pair + 1], key[2], key[3]);
            }
        }
        const bool whole = 32 * block + 31 <= place && (!WINDOW || 32 * block > place + TOK - 1 - WINDOW);
        float highest[2] = {most[0], most[1]};
        #pragma unroll
        for (int n = 0; n < 4; n++) {
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                const int own = place + token[i / 2], other = 32 * block + 8 * n + 2 * t + i % 2;
                float score = scores[n][i] * SCALE;
                if (CAP > 0) score = tanhf(score / CAP) * CAP;
                score *= LOG2E;
                if (!whole && (other > own || (WINDOW && other <= own - WINDOW))) score = __uint_as_float(0xff800000u);
                scores[n][i] = score;
                highest[i / 2] = fmaxf(highest[i / 2], score);
            }
        }
        #pragma unroll
        for (int half = 0; half < 2; half++) {
            highest[half] = fmaxf(highest[half], __shfl_xor_sync(0xffffffffu, highest[half], 1));
            highest[half] = fmaxf(highest[half], __shfl_xor_sync(0xffffffffu, highest[half], 2));
            const float kept = exp2f(most[half] - highest[half]);
            most[half] = highest[half];
            total[half] *= kept;
            #pragma unroll
            for (int n = 0; n < CHUNKS; n++) {
                sums[n][2 * half] *= kept;
                sums[n][2 * half + 1] *= kept;
            }
        }
        #pragma unroll
        for (int n = 0; n < 4; n++)
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[n][i] = exp2f(scores[n][i] - most[i / 2]);
                total[i / 2] += scores[n][i];
            }
        #pragma unroll
        for (int part = 0; part < 2; part++) {
            const unsigned weight[4] = {
                pack(scores[2 * part][0], scores[2 * part][1]), pack(scores[2 * part][2], scores[2 * part][3]),
                pack(scores[2 * part + 1][0], scores[2 * part + 1][1]), pack(scores[2 * part + 1][2], scores[2 * part + 1][3]),
            };
            #pragma unroll
            for (int pair = 0; pair < CHUNKS / 2; pair++) {
                unsigned value[4];
                const int row = 16 * part + lane / 8 % 2 * 8 + lane % 8;
                load(value, &values_here[stage][row][16 * pair + lane / 16 * 8], true);
                multiply(sums[2 * pair], weight, value[0], value[1]);
                multiply(sums[2 * pair + 1], weight, value[2], value[3]);
            }
        }
        __syncthreads();
    }
    #pragma unroll
    for (int half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
        total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
        if (token[half] >= count) continue;
        const float by = 1.0f / total[half];
        #pragma unroll
        for (int n = 0; n < CHUNKS; n++)
            *reinterpret_cast<unsigned*>(attended + from[half] + 8 * n + 2 * t) =
                pack(sums[n][2 * half] * by, sums[n][2 * half + 1] * by);
    }
"""

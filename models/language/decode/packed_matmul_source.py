"""CUDA source of the kernel in `packed_matmul`: the body of a function."""

# x W^T with packed weights of BITS each, with a scale and an offset per GROUP, for up to 8 x TILES rows. A block takes 16
# rows of W, or 8 of each half if GATED; its warps share the channels and multiply on the tensor cores, of whose 16 rows a
# lane has two. Channels are in the order of a word, the low halves of a register first, so that two numbers are unpacked
# at once. Unpacked numbers are exact before they are scaled.
QUANTIZED_PRODUCT = """
    constexpr int PER = 32 / BITS, CHUNK = 8 * PER, PAIRS = PER / 2, AHEAD = 5;
    __shared__ float parts[WARPS][TILES][4][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, of_row = lane / 4, of_chunk = lane % 4;
    const int rows = x_shape[0], width = x_shape[1], words = w_shape[1], groups = scales_shape[1];
    const int outputs = GATED ? w_shape[0] / 2 : w_shape[0];
    const int first = blockIdx.x * (GATED ? 8 : 16) + of_row;
    const int low = min(first, outputs - 1), high = GATED ? outputs + low : min(first + 8, outputs - 1);
    const auto all_scales = reinterpret_cast<const unsigned short*>(scales);
    const auto all_offsets = reinterpret_cast<const unsigned short*>(biases);

    auto by = [](unsigned a, unsigned b, unsigned c) {  // a b + c, of two halves
        unsigned d;
        if (HALF) asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
        else asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
        return d;
    };
    auto twice = [](unsigned short half) { return half * 0x10001u; };
    auto numbers = [&](unsigned word, int i) {  // the i-th, and the one half a word further
        const unsigned here = word >> (BITS * i);
        if (BITS == 4 && HALF) return by((here << 6) & 0x03c003c0u | 0x4c004c00u, 0x3c003c00u, 0xcc00cc00u);  // - 16
        if (BITS == 4) return by((here << 3) & 0x00780078u | 0x41804180u, 0x3f803f80u, 0xc180c180u);  // - 16
        if (HALF) return by(here & 0x00ff00ffu | 0x64006400u, 0x3c003c00u, 0xe400e400u);  // - 1024
        const float one = __uint_as_float(here & 0xffu | 0x4b000000u) - 8388608.0f;
        const float other = __uint_as_float((here >> 16) & 0xffu | 0x4b000000u) - 8388608.0f;
        unsigned both;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(other), "f"(one));
        return both;
    };

    float sums[TILES][4];
    for (int tile = 0; tile < TILES; tile++) for (int i = 0; i < 4; i++) sums[tile][i] = 0;
    const int chunks = width / CHUNK;
    for (int round = warp; round < chunks; round += WARPS * AHEAD) {
        uint2 lows[AHEAD], highs[AHEAD];  // all loads are in flight before the first is used
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            const int at = 8 * min(round + WARPS * n, chunks - 1) + 2 * of_chunk;
            lows[n] = __ldcs(reinterpret_cast<const uint2*>(w + (size_t)low * words + at));
            highs[n] = __ldcs(reinterpret_cast<const uint2*>(w + (size_t)high * words + at));
        }
        #pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            if (round + WARPS * n >= chunks) break;
            const int channel = (round + WARPS * n) * CHUNK + 2 * of_chunk * PER, group = channel / GROUP;
            const unsigned low_scale = twice(all_scales[(size_t)low * groups + group]);
            const unsigned high_scale = twice(all_scales[(size_t)high * groups + group]);
            const unsigned low_offset = twice(all_offsets[(size_t)low * groups + group]);
            const unsigned high_offset = twice(all_offsets[(size_t)high * groups + group]);
            #pragma unroll
            for (int part = 0; part < 2; part++) {
                unsigned of_low[PAIRS], of_high[PAIRS];
                #pragma unroll
                for (int i = 0; i < PAIRS; i++) {
                    of_low[i] = by(numbers(part ? lows[n].y : lows[n].x, i), low_scale, low_offset);
                    of_high[i] = by(numbers(part ? highs[n].y : highs[n].x, i), high_scale, high_offset);
                }
                #pragma unroll
                for (int tile = 0; tile < TILES; tile++) {
                    const int row = 8 * tile + of_row;
                    unsigned given[PAIRS];
                    for (int i = 0; i < PAIRS; i++) given[i] = 0;
                    if (row < rows) {
                        const T* from = x + (size_t)row * width + channel + part * PER;
                        if (PAIRS == 4) *reinterpret_cast<uint4*>(given) = *reinterpret_cast<const uint4*>(from);
                        else *reinterpret_cast<uint2*>(given) = *reinterpret_cast<const uint2*>(from);
                    }
                    #pragma unroll
                    for (int step = 0; step < PAIRS / 2; step++) {
                        const unsigned here = given[step], further = given[step + PAIRS / 2];
                        const unsigned even = __byte_perm(here, further, 0x5410), odd = __byte_perm(here, further, 0x7632);
                        float* sum = sums[tile];
                        if (HALF)
                            asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                                "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                                : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                                : "r"(of_low[2 * step]), "r"(of_high[2 * step]), "r"(of_low[2 * step + 1]),
                                  "r"(of_high[2 * step + 1]), "r"(even), "r"(odd));
                        else
                            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                                "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                                : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                                : "r"(of_low[2 * step]), "r"(of_high[2 * step]), "r"(of_low[2 * step + 1]),
                                  "r"(of_high[2 * step + 1]), "r"(even), "r"(odd));
                    }
                }
            }
        }
    }
    for (int tile = 0; tile < TILES; tile++)
        for (int i = 0; i < 4; i++) parts[warp][tile][i][lane] = sums[tile][i];
    __syncthreads();
    constexpr int EACH = GATED ? 2 : 4;
    for (int at = threadIdx.x; at < TILES * EACH * 32; at += blockDim.x) {
        const int tile = at / (EACH * 32), i = at / 32 % EACH, from = at % 32;
        const int row = 8 * tile + 2 * (from % 4) + i % 2;
        const int output = blockIdx.x * (GATED ? 8 : 16) + from / 4 + i / 2 * 8;
        float one = 0, other = 0;
        for (int part = 0; part < WARPS; part++) {
            one += parts[part][tile][i][from];
            if (GATED) other += parts[part][tile][i + 2 * GATED][from];
        }
        if (row >= rows || output >= outputs) continue;
        const float gate = (float)(T)one;
        y[(size_t)row * outputs + output] =
            GATED ? (T)(gate / (1.0f + __expf(-gate)) * (float)(T)other) : (T)one;
    }
"""

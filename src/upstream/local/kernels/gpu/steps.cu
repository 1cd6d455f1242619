// The steps of a forward pass, for a card. Compiled when a model is loaded, for the card that there is.
//
// Weights, keys and values are halves; all that is computed is f32. Every number is written by one warp or one
// block, in an order that never changes: the same tokens give the same bits, whatever they are read together with.

typedef unsigned short half_bits;
typedef unsigned int word;
typedef unsigned long long wide;

#define WARP 32
#define EVERYONE 0xffffffffu
// Positions in a page, as the processor's kernels have it.
#define PAGE 32
// Threads that attend together.
#define ATTENDING 256

// What there is to read: for each row its token (low) and position (high), and where in this list the addresses of
// the pages of its sequence begin.
struct Rows {
    const wide* list;
    __device__ word token(word row) const { return (word)list[2 * row]; }
    __device__ word at(word row) const { return (word)(list[2 * row] >> 32); }
    __device__ const wide* pages(word row) const { return list + list[2 * row + 1]; }
};

__device__ __forceinline__ float from_half(half_bits bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ half_bits to_half(float value) {
    half_bits bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Two halves that lie side by side.
__device__ __forceinline__ void two(word both, float* out) {
    out[0] = from_half((half_bits)both);
    out[1] = from_half((half_bits)(both >> 16));
}

// Eight halves that lie side by side.
__device__ __forceinline__ void eight(uint4 all, float* out) {
    two(all.x, out);
    two(all.y, out + 2);
    two(all.z, out + 4);
    two(all.w, out + 6);
}

__device__ __forceinline__ void eight(const float* from, float* out) {
    float4 low = ((const float4*)from)[0], high = ((const float4*)from)[1];
    out[0] = low.x; out[1] = low.y; out[2] = low.z; out[3] = low.w;
    out[4] = high.x; out[5] = high.y; out[6] = high.z; out[7] = high.w;
}

__device__ __forceinline__ float sum_of_warp(float value) {
    for (int apart = WARP / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(EVERYONE, value, apart);
    return value;
}

__device__ __forceinline__ float most_of_warp(float value) {
    for (int apart = WARP / 2; apart > 0; apart /= 2) value = fmaxf(value, __shfl_xor_sync(EVERYONE, value, apart));
    return value;
}

// `shared` has room for a number of each warp.
__device__ float sum_of_block(float value, float* shared) {
    value = sum_of_warp(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    float sum = 0.0f;
    for (word warp = 0; warp < blockDim.x / WARP; warp++) sum += shared[warp];
    return sum;
}

__device__ float most_of_block(float value, float* shared) {
    value = most_of_warp(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    float most = shared[0];
    for (word warp = 1; warp < blockDim.x / WARP; warp++) most = fmaxf(most, shared[warp]);
    return most;
}

// How far a gate is open: by the logistic (0), or by the normal distribution as a hyperbolic tangent has it (1).
__device__ __forceinline__ float open(float gate, word curve) {
    if (curve == 0) return gate / (1.0f + expf(-gate));
    return 0.5f * gate * (1.0f + tanhf(0.7978845608f * gate * (1.0f + 0.044715f * gate * gate)));
}

// x[row] = embedding[token] * factor
extern "C" __global__ void embed(Rows rows, const half_bits* embedding, float factor, float* x, word width) {
    const half_bits* from = embedding + (wide)rows.token(blockIdx.x) * width;
    float* to = x + (wide)blockIdx.x * width;
    for (word at = threadIdx.x; at < width; at += blockDim.x) to[at] = factor * from_half(from[at]);
}

// What `product` does with what it finds.
enum Then { STORE, ADD, GATE };

// Of ROWS rows of `x` at once, so that a weight is loaded once for all of them: each warp multiplies them with one
// row of `w`. Where there is a `scale`, the rows are normalised by it first. GATE wants twice as many weights, gates
// before values. `picked` says which rows of `x` are meant, where it is not all of them. Weights are asked for AHEAD
// turns before they are wanted: they come from far away, and there is little else to do meanwhile.
template <int ROWS, int THEN, int AHEAD>
__device__ __forceinline__ void product(
    const float* x, const float* scale, float epsilon, const half_bits* w, float* out,
    word inputs, word outputs, word rows, const wide* picked, word curve
) {
    word lane = threadIdx.x % WARP, output = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (output >= outputs) return;
    word first = blockIdx.y * ROWS;
    const float* row[ROWS];
    float sums[ROWS], values[ROWS], squares[ROWS];
    #pragma unroll
    for (int r = 0; r < ROWS; r++) {
        word mine = min(first + r, rows - 1);
        row[r] = x + (picked ? picked[mine] : (wide)mine) * inputs;
        sums[r] = values[r] = squares[r] = 0.0f;
    }
    const half_bits* weights = w + (wide)output * inputs;
    const half_bits* others = weights + (wide)outputs * inputs;
    for (word begin = lane * 8; begin < inputs; begin += AHEAD * WARP * 8) {
        uint4 ahead[AHEAD], others_ahead[AHEAD];
        #pragma unroll
        for (int turn = 0; turn < AHEAD; turn++) {
            word at = begin + turn * WARP * 8;
            if (at < inputs) {
                ahead[turn] = *(const uint4*)(weights + at);
                if (THEN == GATE) others_ahead[turn] = *(const uint4*)(others + at);
            }
        }
        #pragma unroll
        for (int turn = 0; turn < AHEAD; turn++) {
            word at = begin + turn * WARP * 8;
            if (at >= inputs) break;
            float weight[8], other[8], number[8];
            eight(ahead[turn], weight);
            if (THEN == GATE) eight(others_ahead[turn], other);
            if (scale) {
                eight(scale + at, number);
                #pragma unroll
                for (int i = 0; i < 8; i++) {
                    weight[i] *= number[i];
                    if (THEN == GATE) other[i] *= number[i];
                }
            }
            #pragma unroll
            for (int r = 0; r < ROWS; r++) {
                eight(row[r] + at, number);
                #pragma unroll
                for (int i = 0; i < 8; i++) {
                    sums[r] += weight[i] * number[i];
                    if (THEN == GATE) values[r] += other[i] * number[i];
                    squares[r] += number[i] * number[i];
                }
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float sum = sum_of_warp(sums[r]);
        float factor = scale ? rsqrtf(sum_of_warp(squares[r]) / inputs + epsilon) : 1.0f;
        float found = sum * factor;
        if (THEN == GATE) found = open(found, curve) * (sum_of_warp(values[r]) * factor);
        if (lane == 0 && first + r < rows) {
            float* to = out + (wide)(first + r) * outputs + output;
            *to = THEN == ADD ? *to + found : found;
        }
    }
}

#define PRODUCT(NAME, ROWS, THEN, AHEAD) \
    extern "C" __global__ void NAME( \
        const float* x, const float* scale, float epsilon, const half_bits* w, float* out, \
        word inputs, word outputs, word rows, const wide* picked, word curve \
    ) { product<ROWS, THEN, AHEAD>(x, scale, epsilon, w, out, inputs, outputs, rows, picked, curve); }

PRODUCT(store_1, 1, STORE, 4)
PRODUCT(store_8, 8, STORE, 2)
PRODUCT(add_1, 1, ADD, 4)
PRODUCT(add_8, 8, ADD, 2)
PRODUCT(gate_1, 1, GATE, 4)
PRODUCT(gate_8, 8, GATE, 2)

// x[row] += change[row], normalised.
extern "C" __global__ void add_normalised(
    float* x, const float* change, const float* scale, float epsilon, word width
) {
    __shared__ float shared[WARP];
    const float* from = change + (wide)blockIdx.x * width;
    float* to = x + (wide)blockIdx.x * width;
    float square = 0.0f;
    for (word at = threadIdx.x; at < width; at += blockDim.x) square += from[at] * from[at];
    float factor = rsqrtf(sum_of_block(square, shared) / width + epsilon);
    for (word at = threadIdx.x; at < width; at += blockDim.x) to[at] += from[at] * factor * scale[at];
}

// How a layer's heads lie and turn.
struct Attention {
    word heads, kv_heads, size;
    // Pairs of numbers that are turned, and whether a number's partner is its neighbour.
    word pairs, neighbours;
    // Where in a page this layer begins; 0, or how many tokens are near.
    word start, window;
    float epsilon;
};

// One warp makes a head of a row of queries, keys and values what attention wants: what is added to it is added,
// it is normalised where the model has it so, and turned. Keys and values go to the page.
extern "C" __global__ void remember(
    Rows rows, float* qkv, Attention shape, const float* bias, const float* query_norm, const float* key_norm,
    const float* turns
) {
    extern __shared__ float head[];
    word row = blockIdx.y, part = blockIdx.x, lane = threadIdx.x, size = shape.size;
    word parts = shape.heads + 2 * shape.kv_heads;
    float* numbers = qkv + ((wide)row * parts + part) * size;
    float square = 0.0f;
    for (word at = lane; at < size; at += WARP) {
        head[at] = numbers[at] + (bias ? bias[part * size + at] : 0.0f);
        square += head[at] * head[at];
    }
    bool query = part < shape.heads, value = part >= shape.heads + shape.kv_heads;
    const float* norm = query ? query_norm : key_norm;
    if (norm && !value) {
        float factor = rsqrtf(sum_of_warp(square) / size + shape.epsilon);
        for (word at = lane; at < size; at += WARP) head[at] *= factor * norm[at];
    }
    __syncwarp();
    word position = rows.at(row);
    if (!value) {
        for (word pair = lane; pair < shape.pairs; pair += WARP) {
            const float* turn = turns + 2 * ((wide)position * shape.pairs + pair);
            word low = shape.neighbours ? 2 * pair : pair;
            word high = shape.neighbours ? low + 1 : pair + shape.pairs;
            float x = head[low], y = head[high];
            head[low] = x * turn[0] - y * turn[1];
            head[high] = x * turn[1] + y * turn[0];
        }
    }
    __syncwarp();
    if (query) {
        for (word at = lane; at < size; at += WARP) numbers[at] = head[at];
        return;
    }
    word kv = (part - shape.heads) % shape.kv_heads;
    half_bits* to = (half_bits*)rows.pages(row)[position / PAGE] + shape.start + kv * 2 * PAGE * size;
    to += (value ? PAGE * size : 0) + position % PAGE * size;
    for (word at = lane; at < size; at += WARP) to[at] = to_half(head[at]);
}

// One block lets a head of a row attend to what its sequence remembers. `numbers` has room for where every page is,
// the query, a sum for each two threads' numbers, and a score for every position of `most_pages` pages.
extern "C" __global__ void attend(Rows rows, const float* qkv, Attention shape, word most_pages, float* attended) {
    extern __shared__ wide numbers[];
    __shared__ float shared[WARP];
    word row = blockIdx.y, head = blockIdx.x, thread = threadIdx.x, size = shape.size;
    const half_bits** pages = (const half_bits**)numbers;
    float *query = (float*)(numbers + most_pages), *parts = query + size, *scores = parts + 2 * ATTENDING;
    word stride = (shape.heads + 2 * shape.kv_heads) * size;
    word end = rows.at(row) + 1, kv = head / (shape.heads / shape.kv_heads);
    word first = shape.window && end > shape.window ? end - shape.window : 0;
    wide place = shape.start + (wide)kv * 2 * PAGE * size;
    for (word at = thread; at < size; at += ATTENDING) query[at] = qkv[(wide)row * stride + head * size + at];
    for (word page = thread; page * PAGE < end; page += ATTENDING) {
        pages[page] = (const half_bits*)rows.pages(row)[page] + place;
    }
    __syncthreads();
    float scaling = rsqrtf((float)size), most = -3.0e38f;
    // Eight threads to a key.
    word eighth = thread % 8;
    for (word begin = first; begin < end; begin += ATTENDING / 8) {
        word position = begin + thread / 8;
        float sum = 0.0f;
        if (position < end) {
            const half_bits* key = pages[position / PAGE] + position % PAGE * size;
            for (word at = eighth * 8; at < size; at += 64) {
                float number[8];
                eight(*(const uint4*)(key + at), number);
                #pragma unroll
                for (int i = 0; i < 8; i++) sum += number[i] * query[at + i];
            }
        }
        for (int apart = 4; apart > 0; apart /= 2) sum += __shfl_xor_sync(EVERYONE, sum, apart);
        if (position < end) {
            most = fmaxf(most, sum * scaling);
            if (eighth == 0) scores[position - first] = sum * scaling;
        }
    }
    most = most_of_block(most, shared);
    float all = 0.0f;
    for (word at = thread; at < end - first; at += ATTENDING) {
        scores[at] = expf(scores[at] - most);
        all += scores[at];
    }
    all = sum_of_block(all, shared);
    // Two numbers of a value to a thread, and as many positions side by side as there are threads for.
    word pairs = size / 2, groups = ATTENDING / pairs, group = thread / pairs, pair = thread % pairs;
    if (group < groups) {
        float sums[2] = {0.0f, 0.0f}, value[2];
        #pragma unroll 4
        for (word position = first + group; position < end; position += groups) {
            const half_bits* values = pages[position / PAGE] + (PAGE + position % PAGE) * size;
            two(((const word*)values)[pair], value);
            float score = scores[position - first];
            sums[0] += score * value[0];
            sums[1] += score * value[1];
        }
        parts[group * size + 2 * pair] = sums[0];
        parts[group * size + 2 * pair + 1] = sums[1];
    }
    __syncthreads();
    for (word at = thread; at < size; at += ATTENDING) {
        float sum = 0.0f;
        for (word part = 0; part < groups; part++) sum += parts[part * size + at];
        attended[((wide)row * shape.heads + head) * size + at] = sum / all;
    }
}

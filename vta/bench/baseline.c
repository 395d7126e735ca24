/* What `vta bench simulator` compares with: VTA instructions as plain loops.
 *
 * Each micro-op is done where it stands, as the simulator that came with VTA does it: dot products
 * of int8 numbers for GEMM, loops over lanes for the ALU, rows for LOAD and STORE. Nothing is
 * rearranged; what a compiler makes of these loops with -O3 is the baseline. Instructions come
 * decoded, legal, and in an order in which they may be executed. BATCH, BLOCK_IN and BLOCK_OUT are
 * given on the compiler's command line.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum {
    INP_LANES = BATCH * BLOCK_IN,
    WGT_LANES = BLOCK_OUT * BLOCK_IN,
    ACC_LANES = BATCH * BLOCK_OUT,
};

enum { LOAD = 0, STORE = 1, GEMM = 2, ALU = 4 };
enum { UOP = 0, WGT = 1, INP = 2, ACC = 3, ACC_8BIT = 5 };
enum { MIN = 0, MAX = 1, ADD = 2, SHR = 3, MUL = 4, RDHM = 5, RSR = 6, REQ = 7 };
enum { DOUBLE = 0, SINGLE = 1 };

/* FIELDS of vta/bench/baseline.py, in the same order. */
struct insn {
    int64_t opcode, memory_type, pad_min, sram_base, dram_base, y_size, x_size, x_stride;
    int64_t y_pad_0, y_pad_1, x_pad_0, x_pad_1;
    int64_t reset, uop_bgn, uop_end, iter_out, iter_in;
    int64_t dst_factor_out, dst_factor_in, src_factor_out, src_factor_in;
    int64_t wgt_factor_out, wgt_factor_in;
    int64_t alu_opcode, use_imm, imm;
};

/* _Machine of vta/bench/baseline.py. */
struct machine {
    uint32_t *uop;
    int8_t *inp, *wgt;
    int32_t *acc;
    uint8_t *dram;
    int64_t dst_low, dst_mask, src_low, src_mask, wgt_low, wgt_mask;
};

#define FOR_EACH_UOP                                                          \
    for (int64_t outer = 0; outer < i->iter_out; outer++)                     \
        for (int64_t inner = 0; inner < i->iter_in; inner++)                  \
            for (int64_t u = i->uop_bgn; u < i->uop_end; u++)

#define INDEX(name)                                                           \
    ((m->uop[u] >> m->name##_low & m->name##_mask)                            \
     + outer * i->name##_factor_out + inner * i->name##_factor_in)

/* -- GEMM ----------------------------------------------------------------------------------- */

static void dot_products(int32_t *restrict acc, const int8_t *restrict inp,
                         const int8_t *restrict wgt)
{
    for (int b = 0; b < BATCH; b++)
        for (int o = 0; o < BLOCK_OUT; o++) {
            int32_t sum = 0;
            for (int k = 0; k < BLOCK_IN; k++)
                sum += inp[b * BLOCK_IN + k] * wgt[o * BLOCK_IN + k];
            acc[b * BLOCK_OUT + o] = (int32_t)((uint32_t)acc[b * BLOCK_OUT + o] + (uint32_t)sum);
        }
}

static void gemm(struct machine *m, const struct insn *i)
{
    if (i->reset) {
        FOR_EACH_UOP
            memset(m->acc + INDEX(dst) * ACC_LANES, 0, ACC_LANES * sizeof(int32_t));
        return;
    }
    FOR_EACH_UOP
        dot_products(m->acc + INDEX(dst) * ACC_LANES, m->inp + INDEX(src) * INP_LANES,
                     m->wgt + INDEX(wgt) * WGT_LANES);
}

/* -- ALU ------------------------------------------------------------------------------------ */

static int32_t left(int32_t a, int32_t by)
{
    return by > 31 ? 0 : (int32_t)((uint32_t)a << by);
}

static int32_t alu_min(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t alu_max(int32_t a, int32_t b) { return a > b ? a : b; }
static int32_t alu_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
static int32_t alu_mul(int32_t a, int32_t b) { return (int32_t)((uint32_t)a * (uint32_t)b); }

static int32_t alu_shr(int32_t a, int32_t b)
{
    if (b >= 0)
        return a >> (b > 31 ? 31 : b);
    return left(a, b < -32 ? 32 : -b);
}

static int32_t alu_rdhm(int32_t a, int32_t b)
{
    if (a == INT32_MIN && b == INT32_MIN)
        return INT32_MAX;
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

static int32_t alu_rsr(int32_t a, int32_t b)
{
    if (b < 0)
        return left(a, b < -32 ? 32 : -b);
    int64_t size = a < 0 ? -(int64_t)a : a;
    int64_t half = ((int64_t)1 << (b > 33 ? 33 : b)) >> 1;
    int64_t rounded = (size + half) >> (b > 33 ? 33 : b);
    return (int32_t)(a < 0 ? -rounded : rounded);
}

#define ALU_LOOPS(operation)                                                  \
    do {                                                                      \
        if (i->use_imm) {                                                     \
            const int32_t operand = (int32_t)i->imm;                          \
            FOR_EACH_UOP {                                                    \
                int32_t *to = m->acc + INDEX(dst) * ACC_LANES;                \
                for (int lane = 0; lane < ACC_LANES; lane++)                  \
                    to[lane] = operation(to[lane], operand);                  \
            }                                                                 \
        } else {                                                              \
            FOR_EACH_UOP {                                                    \
                int32_t *to = m->acc + INDEX(dst) * ACC_LANES;                \
                const int32_t *from = m->acc + INDEX(src) * ACC_LANES;        \
                for (int lane = 0; lane < ACC_LANES; lane++)                  \
                    to[lane] = operation(to[lane], from[lane]);               \
            }                                                                 \
        }                                                                     \
    } while (0)

static int64_t scaled(int64_t mode, int32_t x, int32_t multiplier, int right)
{
    if (mode == DOUBLE)
        return alu_rsr(alu_rdhm(x, multiplier), right);
    if (mode == SINGLE)
        return (((int64_t)x * multiplier >> (right + 30 > 63 ? 63 : right + 30)) + 1) >> 1;
    float scale;
    memcpy(&scale, &multiplier, sizeof scale);
    float product = (float)x * scale;
    if (product != product)
        return 0;
    float limit = 1 << 30;
    return (int64_t)rintf(product > limit ? limit : product < -limit ? -limit : product);
}

static void requantise(struct machine *m, const struct insn *i)
{
    const int64_t mode = i->imm >> 8 & 3, zero_point = (int8_t)i->imm;
    int32_t held[3 * ACC_LANES];
    int64_t held_src = -1;
    FOR_EACH_UOP {
        int64_t src = INDEX(src);
        if (src != held_src) {
            memcpy(held, m->acc + src * ACC_LANES, sizeof held);
            held_src = src;
        }
        int32_t *to = m->acc + INDEX(dst) * ACC_LANES;
        for (int lane = 0; lane < ACC_LANES; lane++) {
            const int32_t packed = held[2 * ACC_LANES + lane];
            const int32_t x = left(alu_add(to[lane], held[lane]), packed >> 8 & 31);
            const int64_t low = (int8_t)(packed >> 16), high = (int8_t)(packed >> 24);
            int64_t y = scaled(mode, x, held[ACC_LANES + lane], packed & 63) + zero_point;
            y = y < low ? low : y;
            to[lane] = (int32_t)(y > high ? high : y);
        }
    }
}

static void alu(struct machine *m, const struct insn *i)
{
    switch (i->alu_opcode) {
    case MIN: ALU_LOOPS(alu_min); break;
    case MAX: ALU_LOOPS(alu_max); break;
    case ADD: ALU_LOOPS(alu_add); break;
    case SHR: ALU_LOOPS(alu_shr); break;
    case MUL: ALU_LOOPS(alu_mul); break;
    case RDHM: ALU_LOOPS(alu_rdhm); break;
    case RSR: ALU_LOOPS(alu_rsr); break;
    case REQ: requantise(m, i); break;
    }
}

/* -- LOAD and STORE ------------------------------------------------------------------------- */

/* Rows of `size` bytes per element, with padding around them. */
static void load_rows(const struct insn *i, uint8_t *sram, const uint8_t *dram, int64_t size,
                      int pad_byte)
{
    const int64_t columns = i->x_pad_0 + i->x_size + i->x_pad_1;
    uint8_t *to = sram + i->sram_base * size;
    memset(to, pad_byte, i->y_pad_0 * columns * size);
    to += i->y_pad_0 * columns * size;
    for (int64_t y = 0; y < i->y_size; y++) {
        memset(to, pad_byte, i->x_pad_0 * size);
        to += i->x_pad_0 * size;
        memcpy(to, dram + (i->dram_base + y * i->x_stride) * size, i->x_size * size);
        to += i->x_size * size;
        memset(to, pad_byte, i->x_pad_1 * size);
        to += i->x_pad_1 * size;
    }
    memset(to, pad_byte, i->y_pad_1 * columns * size);
}

/* ACC numbers: whole from DRAM, or widened from one byte each. */
static void load_acc(struct machine *m, const struct insn *i)
{
    const int is_wide = i->memory_type == ACC;
    const int64_t columns = i->x_pad_0 + i->x_size + i->x_pad_1;
    const int64_t rows = i->y_pad_0 + i->y_size + i->y_pad_1;
    const int32_t pad = !i->pad_min ? 0 : is_wide ? INT32_MIN : INT8_MIN;
    const int64_t lanes = i->x_size * ACC_LANES;
    int32_t *first = m->acc + i->sram_base * ACC_LANES;
    if (rows > i->y_size || columns > i->x_size)
        for (int64_t lane = 0; lane < rows * columns * ACC_LANES; lane++)
            first[lane] = pad;
    for (int64_t y = 0; y < i->y_size; y++) {
        int32_t *to = first + ((i->y_pad_0 + y) * columns + i->x_pad_0) * ACC_LANES;
        const int64_t from = (i->dram_base + y * i->x_stride) * ACC_LANES;
        if (is_wide)
            memcpy(to, m->dram + 4 * from, 4 * lanes);
        else
            for (int64_t lane = 0; lane < lanes; lane++)
                to[lane] = (int8_t)m->dram[from + lane];
    }
}

static void load(struct machine *m, const struct insn *i)
{
    if (!i->x_size)
        return;
    const int pad_byte = i->pad_min ? (uint8_t)INT8_MIN : 0;
    switch (i->memory_type) {
    case UOP: load_rows(i, (uint8_t *)m->uop, m->dram, sizeof(uint32_t), 0); break;
    case INP: load_rows(i, (uint8_t *)m->inp, m->dram, INP_LANES, pad_byte); break;
    case WGT: load_rows(i, (uint8_t *)m->wgt, m->dram, WGT_LANES, pad_byte); break;
    default: load_acc(m, i);
    }
}

static void store(struct machine *m, const struct insn *i)
{
    const int64_t lanes = i->x_size * ACC_LANES;
    for (int64_t y = 0; y < i->y_size; y++) {
        uint8_t *restrict to = m->dram + (i->dram_base + y * i->x_stride) * ACC_LANES;
        const int32_t *restrict from = m->acc + (i->sram_base + y * i->x_size) * ACC_LANES;
        for (int64_t lane = 0; lane < lanes; lane++)
            to[lane] = (uint8_t)from[lane];
    }
}

void vta_baseline_run(struct machine *m, const struct insn *insns, int64_t count)
{
    for (int64_t number = 0; number < count; number++) {
        const struct insn *i = insns + number;
        switch (i->opcode) {
        case LOAD: load(m, i); break;
        case STORE: store(m, i); break;
        case GEMM: gemm(m, i); break;
        case ALU: alu(m, i); break;
        }
    }
}

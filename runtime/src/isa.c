/* isa.c - which instruction sets this processor and its system run.
 *
 * A set counts only when the system saves its registers (XCR0). ATTN_ISA_NATIVE names whatever the compiling machine
 * had, which nothing here can check: it is assumed to run (its maker asked for this machine's like), and module.c
 * prefers any other. */
#include "isa.h"

#include <attn/attn.h>
#include <string.h>

static const char *const isa_names[] = {
    [ATTN_ISA_BASELINE] = "baseline",     [ATTN_ISA_AVX2] = "avx2",     [ATTN_ISA_AVX512] = "avx512",
    [ATTN_ISA_AVX512BF16] = "avx512bf16", [ATTN_ISA_NATIVE] = "native",
};

int attn_isa_parse(const char *name)
{
    for (int i = 0; name && i < ISA_COUNT; i++)
        if (!strcmp(name, isa_names[i])) return i;
    return -1;
}

const char *attn_isa_name(uint32_t isa) { return isa < ISA_COUNT ? isa_names[isa] : "unknown"; }

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t saved_registers(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

typedef struct features {
    uint32_t ecx1, ebx7, ecx7, eax71;
    uint64_t xcr0;
} features;

static features read_features(void)
{
    features f = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
    f.ecx1 = c;
    if (c & bit_OSXSAVE) f.xcr0 = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
    f.ebx7 = b;
    f.ecx7 = c;
    uint32_t last = a;
    if (last >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.eax71 = a;
    return f;
}

static int has(uint64_t word, uint64_t bits) { return (word & bits) == bits; }

static int has_avx2(const features *f)
{
    return has(f->xcr0, 0x6) && has(f->ecx1, bit_AVX | bit_FMA | bit_F16C) && has(f->ebx7, bit_AVX2);
}

static int has_avx512(const features *f)
{
    return has_avx2(f) && has(f->xcr0, 0xe6) &&
           has(f->ebx7, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL);
}

int attn_isa_available(uint32_t isa)
{
    if (isa >= ISA_COUNT) return 0;
    features f = read_features();
    switch ((attn_isa)isa) {
    case ATTN_ISA_BASELINE:
        return 1;
    case ATTN_ISA_AVX2:
        return has_avx2(&f);
    case ATTN_ISA_AVX512:
        return has_avx512(&f);
    case ATTN_ISA_AVX512BF16:
        return has_avx512(&f) && has(f.ecx7, 1u << 11) && has(f.eax71, 1u << 5); /* VNNI, BF16 */
    case ATTN_ISA_NATIVE:
        return 1;
    }
    return 0;
}
#else
int attn_isa_available(uint32_t isa) { return isa == ATTN_ISA_NATIVE; }
#endif

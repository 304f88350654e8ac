// Floor of DMA translation: context cache, 4-way IOTLB, four-level walk. Same algorithm, sizes and random numbers as
// benchmarks/translate.ts, so that the checksums of both agree.
//   usage: translate ROW OPERATIONS      ROW is hit, miss, mixed or mixed64
#include "bench.h"

#define FRAMES 24576u // 96 MiB of simulated memory
#define DATA_FIRST 8192u
#define DATA_FRAMES 16384u
#define CONTEXT_CACHE 256u
#define TLB_SETS 256u
#define TLB_WAYS 4u
#define LEVELS 4
#define PRESENT 1u
#define READ 1u
#define WRITE 2u
#define SUPERPAGE 0x80u

static u64 *memory; // FRAME_WORDS words a frame
static u32 next_frame = 1, root_frame;

static struct {
    u32 tag, did, table, flags;
} context_cache[CONTEXT_CACHE];
static struct {
    u64 tag;
    u32 frame, perm;
} tlb[TLB_SETS][TLB_WAYS];
static u8 next_way[TLB_SETS];

static u64 *frame(u64 n) { return memory + n * FRAME_WORDS; }

static void set_context(u32 rid, u32 did, u32 table)
{
    u64 *root = frame(root_frame) + (rid >> 8) * 2;
    if (!(root[0] & PRESENT))
        root[0] = ((u64)next_frame++ << 12) | PRESENT;
    u64 *context = frame(root[0] >> 12) + (rid & 255) * 2;
    context[0] = ((u64)table << 12) | PRESENT;
    context[1] = 2 | ((u64)did << 8);
}

static void map(u32 table, u64 dfn, u32 target)
{
    for (int level = LEVELS - 1; level > 0; level--) {
        u64 *entry = frame(table) + ((dfn >> (9 * level)) & 511);
        if (!(*entry & (READ | WRITE)))
            *entry = ((u64)next_frame++ << 12) | READ | WRITE;
        table = *entry >> 12;
    }
    frame(table)[dfn & 511] = ((u64)target << 12) | READ | WRITE;
}

/// Fills the context cache; negative when there is no entry.
static NOINLINE int load_context(u32 rid, u32 slot)
{
    u64 root = frame(root_frame)[(rid >> 8) * 2];
    if (!(root & PRESENT))
        return -1;
    u64 *context = frame(root >> 12) + (rid & 255) * 2;
    if (!(context[0] & PRESENT))
        return -2;
    context_cache[slot].tag = rid | 0x10000;
    context_cache[slot].table = context[0] >> 12;
    context_cache[slot].did = (context[1] >> 8) & 0xffff;
    context_cache[slot].flags = context[0] & 0xfff;
    return 0;
}

/// Machine frame of (requester, device frame), or a negative fault reason.
static NOINLINE int64_t translate(u32 rid, u64 dfn, u32 need)
{
    u32 slot = (rid ^ (rid >> 8)) & (CONTEXT_CACHE - 1);
    if (__builtin_expect(context_cache[slot].tag != (rid | 0x10000), 0)) {
        int rc = load_context(rid, slot);
        if (rc < 0)
            return rc;
    }
    u32 did = context_cache[slot].did;
    if (dfn >> 36)
        return -4;
    u64 tag = dfn | ((u64)(did | 0x10000) << 36);
    u32 set = (dfn ^ (dfn >> 8) ^ did) & (TLB_SETS - 1);
    for (u32 way = 0; way < TLB_WAYS; way++)
        if (tlb[set][way].tag == tag)
            return (tlb[set][way].perm & need) == need ? (int64_t)tlb[set][way].frame : -5;

    u64 table = context_cache[slot].table, perm = READ | WRITE;
    for (int level = LEVELS - 1;; level--) {
        u64 entry = frame(table)[(dfn >> (9 * level)) & 511];
        perm &= entry;
        if (!(entry & (READ | WRITE)))
            return -6;
        table = (entry >> 12) & 0xffffffffffull;
        if (level == 0)
            break;
        if (entry & SUPERPAGE) {
            table += dfn & ((1u << (9 * level)) - 1);
            break;
        }
        if (table >= FRAMES)
            return -7;
    }
    if ((perm & need) != need)
        return -5;
    u32 way = next_way[set]++ & (TLB_WAYS - 1);
    tlb[set][way].tag = tag;
    tlb[set][way].frame = table;
    tlb[set][way].perm = perm;
    return (int64_t)table;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const char *row = argv[1];
    u32 n = strtoul(argv[2], 0, 10);
    int hit = !strcmp(row, "hit"), miss = !strcmp(row, "miss"), copy = !strcmp(row, "mixed64");

    memory = aligned_alloc(4096, FRAMES * 4096ul);
    // Real memory behind every frame: untouched, they would all be the one zero page of the operating system.
    memset(memory, 0, FRAMES * 4096ul);
    root_frame = next_frame++;
    u32 table = next_frame++, rids[8];
    for (u32 i = 0; i < 8; i++)
        set_context(rids[i] = 0x0300 + i * 0x108, 5, table);
    for (u32 dfn = 0; dfn < 1u << 20; dfn++)
        map(table, dfn, DATA_FIRST + ((dfn * 2654435761u) >> 18) % DATA_FRAMES);

    // The first pass is always the mixed one: it leaves the IOTLB as a busy machine does, entries in every way.
    for (int pass = 0; pass < 2; pass++) {
        u32 ops = pass == 0 ? 200000 : n;
        u64 sum = 0;
        u8 buffer[64];
        rng_state = 0x12345;
        double start = cpu_ns();
        for (u32 i = 0; i < ops; i++) {
            u32 r = rng_next(), rid = rids[0], dfn;
            if (pass == 1 && hit)
                dfn = r & 255;
            else if (pass == 1 && miss)
                dfn = r & 0xfffff;
            else {
                rid = rids[(r >> 21) & 7];
                dfn = (r >> 24) < 230 ? r & 63 : r & 0xfffff;
            }
            int64_t at = translate(rid, dfn, READ);
            sum += at;
            if (copy) {
                memcpy(buffer, (u8 *)frame(at) + (r & 0xfc0), 64);
                __asm__ volatile("" : : "m"(buffer)); // all of it, not the one byte that is looked at below
                sum += buffer[3];
            }
        }
        if (pass == 1)
            report(row, (cpu_ns() - start) / ops, sum);
    }
    return 0;
}

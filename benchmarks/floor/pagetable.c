// Floor of I/O page-table updates: map and unmap of one page in a four-level second-level table, with contiguity
// marks, coalescing, table allocation and freeing, and the flush through the invalidation queue.
//   usage: pagetable ROW PAIRS      ROW is 4k, 4kflush, 2m or 2mflush
#include "bench.h"

#define FRAMES 16384
#define READ 1ull
#define WRITE 2ull
#define SUPERPAGE 0x80ull
#define MARK_SHIFT 52
#define MARK_MASK (0xfull << MARK_SHIFT)
#define ADDRESS_MASK 0x000ffffffffff000ull
#define STRIDE 9
#define TOP 4
#define QUEUE_SLOTS 256
#define ENOMEM -12
enum kind { KIND_NULL, KIND_LEAF, KIND_TABLE };
enum { FLUSH_ADDED = 1, FLUSH_MODIFIED = 2, FLUSH_ALL = 4 };
enum { QI_IOTLB = 2, QI_WAIT = 5 };

static u64 *memory;
static u32 free_frames[FRAMES], free_count, root, queue_frame, queue_head, queue_tail, wait_done;
static u32 tlb_tags[1024], stamp = 2, locks;
static u32 freed_later[16], freed_count;

static u64 *frame(u64 n) { return memory + n * FRAME_WORDS; }
static inline u32 index_at(u64 dfn, int level) { return (dfn >> (STRIDE * (level - 1))) & 511; }

// A fresh table: all entries are contiguous in being empty.
static u32 table_alloc(void)
{
    if (!free_count)
        return 0;
    u32 n = free_frames[--free_count];
    u64 *t = memset(frame(n), 0, 4096);
    t[0] = (u64)STRIDE << MARK_SHIFT;
    for (u32 i = 2; i < 512; i += 2)
        t[i] = (u64)__builtin_ctz(i) << MARK_SHIFT;
    return n;
}

static inline u32 mark(const u64 *t, u32 i) { return (t[i] & MARK_MASK) >> MARK_SHIFT; }
static inline void set_mark(u64 *t, u32 i, u64 m) { t[i] = (t[i] & ~MARK_MASK) | m << MARK_SHIFT; }
static inline int continues(const u64 *t, u32 i, u32 other, u32 bit, enum kind kind)
{
    u64 entry = t[i] & ~MARK_MASK;
    return kind == KIND_NULL ? entry == 0 : (entry ^ (t[other] & ~MARK_MASK)) == 1ull << bit;
}

/// Brings the marks up to date after entry `index` was written; non-zero when the whole table is one run.
static NOINLINE int update_marks(u64 *t, u32 index, int level, enum kind kind)
{
    for (u32 i = index; i;) { // runs that reached over the entry end before it
        u32 b = __builtin_ctz(i);
        i &= ~(1u << b);
        if (mark(t, i) <= b)
            break;
        set_mark(t, i, b);
    }
    if (kind == KIND_TABLE)
        return 0;
    u32 shift = 12 + (level - 1) * STRIDE, b = 0;
    if (kind == KIND_LEAF && index != ((t[index] & ADDRESS_MASK) >> shift & 511))
        return 0;
    for (; b < STRIDE && !(index & (1u << b)); b++) {
        u32 i = index | (1u << b);
        if (!continues(t, i, index, b + shift, kind) || mark(t, i) != b)
            break;
    }
    for (u32 first = index;; b++) {
        set_mark(t, first, b);
        if (b >= STRIDE)
            break;
        u32 i = first ^ (1u << b);
        if (!continues(t, i, first, b + shift, kind) || mark(t, i) != b)
            break;
        first &= ~(1u << b);
    }
    return b == STRIDE;
}

/// The table that holds the entry of `dfn` at `target`; 0 when it is missing and not wanted, or memory is short.
static NOINLINE u32 table_for(u64 dfn, int target, int create)
{
    u32 at = root;
    for (int level = TOP; level > target; level--) {
        u64 *entry = frame(at) + index_at(dfn, level);
        if (!(*entry & (READ | WRITE))) {
            u32 fresh = create ? table_alloc() : 0;
            if (!fresh)
                return 0;
            *entry = (u64)fresh << 12 | READ | WRITE;
            update_marks(frame(at), index_at(dfn, level), level, KIND_TABLE);
            at = fresh;
        } else
            at = (*entry & ADDRESS_MASK) >> 12;
    }
    return at;
}

static NOINLINE int map_page(u64 dfn, u64 mfn, int order, u32 *flush)
{
    locks++;
    int level = order / STRIDE + 1;
    u32 at = table_for(dfn, level, 1);
    if (!at)
        return ENOMEM;
    u64 *table = frame(at), *entry = table + index_at(dfn, level), old = *entry;
    u64 new = mfn << 12 | READ | WRITE | (order ? SUPERPAGE : 0);
    if (!((old ^ new) & ~MARK_MASK)) {
        locks--;
        return 0;
    }
    *entry = new;
    while (update_marks(table, index_at(dfn, level), level, level < 3 ? KIND_LEAF : KIND_TABLE)) {
        freed_later[freed_count++] = at;
        new &= ~(511ull << (12 + STRIDE * (level - 1)));
        new |= SUPERPAGE;
        at = table_for(dfn, ++level, 0);
        table = frame(at);
        table[index_at(dfn, level)] = new;
        *flush |= FLUSH_MODIFIED | FLUSH_ALL;
    }
    locks--;
    *flush |= FLUSH_ADDED | (old & (READ | WRITE) ? FLUSH_MODIFIED : 0);
    return 0;
}

static NOINLINE int unmap_page(u64 dfn, int order, u32 *flush)
{
    locks++;
    int level = order / STRIDE + 1;
    u32 at = table_for(dfn, level, 0);
    if (!at || !(frame(at)[index_at(dfn, level)] & (READ | WRITE))) {
        locks--;
        return 0;
    }
    u64 *table = frame(at);
    table[index_at(dfn, level)] = 0;
    while (update_marks(table, index_at(dfn, level), level, KIND_NULL) && ++level < TOP) {
        freed_later[freed_count++] = at;
        at = table_for(dfn, level, 0);
        table = frame(at);
        table[index_at(dfn, level)] = 0;
        *flush |= FLUSH_ALL;
    }
    locks--;
    *flush |= FLUSH_MODIFIED;
    return 0;
}

static NOINLINE void queue_drain(void)
{
    for (; queue_head != queue_tail; queue_head = (queue_head + 1) & (QUEUE_SLOTS - 1)) {
        u64 *d = frame(queue_frame) + queue_head * 2;
        if ((d[0] & 15) == QI_WAIT)
            wait_done = d[0] >> 32;
        else if ((d[0] >> 4 & 3) == 3) { // page-selective: one set
            u32 set = d[1] >> 12 & 255;
            for (u32 way = 0; way < 4; way++)
                if (tlb_tags[set * 4 + way] == (u32)(d[1] >> 12))
                    tlb_tags[set * 4 + way] = 0;
        } else
            stamp++;
    }
}
static void queue_push(u64 low, u64 high)
{
    u64 *d = frame(queue_frame) + queue_tail * 2;
    d[0] = low;
    d[1] = high;
    queue_tail = (queue_tail + 1) & (QUEUE_SLOTS - 1);
    queue_drain();
}
static NOINLINE void flush_iotlb(u64 dfn, int order, u32 flags)
{
    int page = !(flags & FLUSH_ALL);
    queue_push(QI_IOTLB | (page ? 0x30 : 0x20) | 1 << 16, page ? dfn << 12 | order : 0);
    wait_done = 0;
    queue_push(QI_WAIT | 0x20 | 1ull << 32, 0);
    if (wait_done != 1)
        abort();
    while (freed_count)
        free_frames[free_count++] = freed_later[--freed_count];
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int pairs = atoi(argv[2]), order = argv[1][0] == '2' ? 9 : 0, with_flush = strstr(argv[1], "flush") != 0;
    memory = calloc(FRAMES, 4096);
    for (u32 n = FRAMES - 1; n > 0; n--)
        free_frames[free_count++] = n;
    root = table_alloc();
    queue_frame = table_alloc();
    u32 flags = 0;
    for (u32 i = 0; i < 64; i++) // one resident page in each table
        map_page((u64)i * 512 + 511, 4096 + i * 7, 0, &flags);
    if (order)
        for (u32 i = 0; i < 4; i++)
            map_page((u64)(i + 8) << 18, 1u << 19, 0, &flags);
    for (int pass = 0; pass < 2; pass++) {
        int n = pass == 0 ? pairs / 10 + 1 : pairs;
        u64 sum = 0;
        rng_state = 0x12345;
        double start = cpu_ns();
        for (int i = 0; i < n; i++) {
            u32 r = rng_next();
            u64 dfn = (r & 63) * 512 + (r >> 11) % 500;
            if (order)
                dfn = (((u64)(r & 3) + 8) << 18) + ((u64)(1 + (r >> 8) % 510) << 9);
            flags = 0;
            if (map_page(dfn, (u64)(r >> 3 & 0xfffff) << order, order, &flags))
                abort();
            if (with_flush && (flags & (FLUSH_MODIFIED | FLUSH_ALL)))
                flush_iotlb(dfn, order, flags);
            flags = 0;
            unmap_page(dfn, order, &flags);
            if (with_flush)
                flush_iotlb(dfn, order, flags);
            sum += flags;
        }
        if (pass == 1)
            report(argv[1], (cpu_ns() - start) / n, sum);
    }
    return 0;
}

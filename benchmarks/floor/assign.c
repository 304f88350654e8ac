// Floor of the assignment hot path: a hand-written twin of the data layout and steps of assign_device and
// deassign_device (domctl, ownership lists, context entries, queued invalidation), with none of Xen's rarer cases.
//   usage: assign ROW PAIRS      ROW is one, phantom8 or noquarantine
#include "bench.h"

#define FRAMES 16384
#define DOMAINS 5000
#define DEVICES 64
#define QUEUE_SLOTS 256
#define DID_HW 0
#define DID_IO 0x7ff1
#define ESRCH -3
#define ENOMEM -12
#define EBUSY -16
#define ENODEV -19
#define EINVAL -22
#define ENOSYS -38
enum { CMD_ASSIGN = 37, CMD_DEASSIGN = 47 };
enum { QI_CONTEXT = 1, QI_IOTLB = 2, QI_WAIT = 5 };
enum { FLAG_QUARANTINE = 1, FLAG_DYING = 2 };

static u64 *memory;
static int free_frames[FRAMES], free_count;
static u32 root_frame, queue_frame, queue_tail, queue_head, wait_done;
static int context_cache[1024], tlb[4096], stamp[65536], next_stamp = 2;
static int quarantine = 1, locks;

static struct device {
    int sbdf, owner, next, prev, faults, stride, flags;
} devices[DEVICES];
static struct domain {
    int id, first, table, devices, flags;
} domains[DOMAINS];
static int device_count, domain_count, hwdom, dom_io;

// Open-addressed maps from a number to an index.
struct map {
    u32 mask;
    int *slots;
};
static struct map by_sbdf, by_domid;

static void map_init(struct map *m, int bits)
{
    m->mask = (1u << bits) - 1;
    m->slots = calloc(2u << bits, sizeof(int));
}
static inline u32 map_hash(struct map *m, int key) { return ((u32)key * 0x9e3779b1u >> 7) & m->mask; }
static inline int map_get(struct map *m, int key)
{
    for (u32 i = map_hash(m, key);; i = (i + 1) & m->mask) {
        int found = m->slots[2 * i];
        if (found == key + 1)
            return m->slots[2 * i + 1];
        if (!found)
            return -1;
    }
}
static void map_set(struct map *m, int key, int value)
{
    u32 i = map_hash(m, key);
    while (m->slots[2 * i] && m->slots[2 * i] != key + 1)
        i = (i + 1) & m->mask;
    m->slots[2 * i] = key + 1;
    m->slots[2 * i + 1] = value;
}

static u64 *frame(u64 n) { return memory + n * FRAME_WORDS; }
static u32 frame_alloc(void)
{
    if (!free_count)
        return 0;
    u32 n = free_frames[--free_count];
    memset(frame(n), 0, 4096);
    return n;
}
static void frame_free(u32 n) { free_frames[free_count++] = n; }

// The unit takes descriptors out of the queue.
static NOINLINE void queue_drain(void)
{
    while (queue_head != queue_tail) {
        u64 *d = frame(queue_frame) + queue_head * 2;
        u32 low = d[0];
        switch (low & 15) {
        case QI_CONTEXT: {
            u32 rid = (d[0] >> 32) & 0xffff, slot = ((rid ^ (rid >> 8)) & 255) << 2;
            if (context_cache[slot] == (int)(rid | 0x10000))
                context_cache[slot] = 0;
            break;
        }
        case QI_IOTLB:
            if (((low >> 4) & 3) == 2)
                stamp[low >> 16] = next_stamp++;
            else
                memset(tlb, 0, sizeof tlb);
            break;
        case QI_WAIT:
            wait_done = d[0] >> 32;
            break;
        }
        queue_head = (queue_head + 1) & (QUEUE_SLOTS - 1);
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
static void queue_wait(void)
{
    wait_done = 0;
    queue_push(QI_WAIT | 0x20 | (1ull << 32), 0);
    if (wait_done != 1)
        abort();
}
static void flush_context(u32 did, u32 rid)
{
    queue_push(QI_CONTEXT | 0x30 | (did << 16) | ((u64)rid << 32), 0);
    queue_wait();
}
static void flush_iotlb(u32 did)
{
    queue_push(QI_IOTLB | 0x20 | (did << 16), 0);
    queue_wait();
}

static u64 *context_entry(u32 rid, int create)
{
    u64 *root = frame(root_frame) + (rid >> 8) * 2;
    if (!(root[0] & 1)) {
        u32 n = create ? frame_alloc() : 0;
        if (!n)
            return 0;
        root[0] = ((u64)n << 12) | 1;
    }
    return frame(root[0] >> 12) + (rid & 255) * 2;
}

static NOINLINE int context_map(int d, u32 rid)
{
    locks++;
    u64 *entry = context_entry(rid, 1);
    if (!entry)
        return ENOMEM;
    int present = entry[0] & 1;
    u32 old_did = 0;
    if (present) {
        old_did = (entry[1] >> 8) & 0xffff;
        int old = map_get(&by_domid, old_did);
        if (old < 0)
            return ESRCH;
        if (old == d) {
            locks--;
            return 0;
        }
    }
    if (!domains[d].table && !(domains[d].table = frame_alloc()))
        return ENOMEM;
    entry[1] = 2 | ((u64)domains[d].id << 8);
    entry[0] = ((u64)domains[d].table << 12) | 1;
    locks--;
    if (present) {
        flush_context(old_did, rid);
        flush_iotlb(old_did);
    }
    return 0;
}

static NOINLINE int context_unmap(u32 rid)
{
    locks++;
    u64 *entry = context_entry(rid, 0);
    if (!entry || !(entry[0] & 1)) {
        locks--;
        return 0;
    }
    u32 did = (entry[1] >> 8) & 0xffff;
    entry[0] = entry[1] = 0;
    flush_context(did, rid);
    flush_iotlb(did);
    locks--;
    return 0;
}

static void list_add(int i, int d)
{
    int head = domains[d].first;
    devices[i].next = head;
    devices[i].prev = -1;
    if (head >= 0)
        devices[head].prev = i;
    domains[d].first = i;
    domains[d].devices++;
}
static void list_del(int i, int d)
{
    int next = devices[i].next, prev = devices[i].prev;
    if (prev >= 0)
        devices[prev].next = next;
    else
        domains[d].first = next;
    if (next >= 0)
        devices[next].prev = prev;
    domains[d].devices--;
}

static NOINLINE int reassign(int source, int target, int i, u32 rid)
{
    int rc = target == dom_io ? context_unmap(rid) : context_map(target, rid);
    if (rc)
        return rc;
    if (rid == (devices[i].sbdf & 0xffffu) && devices[i].owner != target) {
        locks++;
        list_del(i, source);
        locks--;
        devices[i].owner = target;
        locks++;
        list_add(i, target);
        locks--;
    }
    return 0;
}

/// The quarantine tables are prepared and dropped again: basic mode, no reserved regions.
static int quarantine_init(void)
{
    u32 n = frame_alloc();
    if (!n)
        return ENOMEM;
    frame_free(n);
    return 0;
}

static NOINLINE int deassign(int d, int i)
{
    struct device *dev = &devices[i];
    int target = (quarantine || (dev->flags & FLAG_QUARANTINE)) && d != dom_io ? dom_io : hwdom;
    if (target == dom_io && quarantine_init())
        return ENOMEM;
    u32 rid = dev->sbdf & 0xffff;
    if (dev->stride)
        for (u32 fn = rid + dev->stride; (fn & ~7u) == (rid & ~7u); fn += dev->stride) {
            int rc = reassign(d, target, i, fn);
            if (rc)
                return rc;
        }
    int rc = reassign(d, target, i, rid);
    if (rc)
        return rc;
    if (target == hwdom)
        dev->flags &= ~FLAG_QUARANTINE;
    dev->faults = 0;
    return 0;
}

static NOINLINE int assign(int d, int i)
{
    struct device *dev = &devices[i];
    if (quarantine && dev->owner != dom_io && quarantine_init())
        return ENOMEM;
    dev->faults = 0;
    u32 rid = dev->sbdf & 0xffff;
    int rc = reassign(dev->owner, d, i, rid);
    if (dev->stride)
        for (u32 fn = rid + dev->stride; !rc && (fn & ~7u) == (rid & ~7u); fn += dev->stride)
            rc = reassign(dev->owner, d, i, fn);
    if (rc && dev->owner == d)
        deassign(d, i);
    if (!rc && d == dom_io)
        dev->flags |= FLAG_QUARANTINE;
    return rc;
}

static NOINLINE int domctl(int cmd, int domid, int sbdf, int flags)
{
    int d = map_get(&by_domid, domid);
    if (d < 0)
        return ESRCH;
    if (d == hwdom || (flags & ~1))
        return EINVAL;
    locks++;
    int i = map_get(&by_sbdf, sbdf), rc = ENOSYS;
    if (cmd == CMD_ASSIGN)
        rc = i < 0                                                        ? ENODEV
             : domains[d].flags & FLAG_DYING                              ? EINVAL
             : devices[i].owner != hwdom && devices[i].owner != dom_io    ? EBUSY
                                                                          : assign(d, i);
    else if (cmd == CMD_DEASSIGN)
        rc = i < 0 || devices[i].owner != d ? ENODEV : deassign(d, i);
    locks--;
    return rc;
}

static int add_domain(int id)
{
    int d = domain_count++;
    domains[d] = (struct domain){.id = id, .first = -1};
    map_set(&by_domid, id, d);
    return d;
}
static void add_device(int sbdf, int stride)
{
    int i = device_count++;
    devices[i] = (struct device){.sbdf = sbdf, .owner = hwdom, .stride = stride};
    list_add(i, hwdom);
    map_set(&by_sbdf, sbdf, i);
    int fn = sbdf;
    do {
        context_map(hwdom, fn);
        fn += stride;
    } while (stride && (fn & 7));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int pairs = atoi(argv[2]), sbdf = 0x100;
    memory = calloc(FRAMES, 4096);
    for (int n = FRAMES - 1; n > 0; n--)
        free_frames[free_count++] = n;
    root_frame = frame_alloc();
    queue_frame = frame_alloc();
    for (int i = 0; i < 65536; i++)
        stamp[i] = 1;
    map_init(&by_sbdf, 8);
    map_init(&by_domid, 8);
    hwdom = add_domain(DID_HW);
    dom_io = add_domain(DID_IO);
    for (int i = 0; i < 10; i++)
        add_device(i << 8, i == 2 ? 1 : 0);
    for (int i = 1; i <= 16; i++)
        add_domain(i);
    for (int i = 0; i < 10; i++)
        if (domctl(CMD_ASSIGN, DID_IO, i << 8, 0))
            abort();
    if (!strcmp(argv[1], "phantom8"))
        sbdf = 0x200;
    if (!strcmp(argv[1], "noquarantine")) {
        quarantine = 0;
        sbdf = 0x300;
        if (domctl(CMD_DEASSIGN, DID_IO, sbdf, 0))
            abort();
    }
    for (int pass = 0; pass < 2; pass++) {
        int n = pass == 0 ? pairs / 10 + 1 : pairs;
        double start = cpu_ns();
        for (int i = 0; i < n; i++)
            if (domctl(CMD_ASSIGN, 1, sbdf, 0) || domctl(CMD_DEASSIGN, 1, sbdf, 0))
                abort();
        if (pass == 1)
            report(argv[1], (cpu_ns() - start) / n, locks);
    }
    return 0;
}

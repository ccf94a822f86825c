/* The structure walk over a whole database. seeds: database
**
** Bytes 72 to 91 of page 1, which SQLite reserves, choose the columns, the order, the sharing and whether users are
** asked for. Roots are page 1 and
** every page that looks like one and that no tree before it used. */
#include "common/memory.h"

#define TREES 6
#define COLUMNS 4
#define ROOM 256
#define STACKS 8

static uint32_t page_size_of(const uint8_t *data) {
  uint32_t size = (uint32_t)data[16] << 8 | data[17];
  return size == 1 ? 65536 : size;
}

static uint32_t ones(const uint8_t *bits, size_t size) {
  uint32_t count = 0;
  for (size_t i = 0; i < size; i++) {
    count += (uint32_t)__builtin_popcount(bits[i]);
  }
  return count;
}

typedef struct {
  pw_walk walk;
  pw_source source;
  uint8_t *used;
  size_t used_size;
  uint8_t *work[STACKS];
  size_t work_size;
  uint32_t looked;
} state;

/* Walk all of a stack; now and then it is shared, as among threads. */
static void run(state *s, pw_parts *first, uint32_t share) {
  static pw_parts stacks[STACKS];
  static pw_flaw flaws[ROOM];
  uint32_t count = 1;
  memset(stacks, 0, sizeof stacks);
  stacks[0] = *first;
  for (uint32_t turn = 0; count; turn++) {
    pw_parts *parts = stacks + turn % count;
    pw_seen seen;
    pw_fault fault;
    pw_status status = pw_walk_step(&s->walk, &s->source, parts, s->work[parts - stacks], s->work_size, 3 + share, flaws,
                                    ROOM, &seen, &fault);
    HOLDS(status == PW_OK || status == PW_SHORT_READ || status == PW_IO);
    HOLDS(seen.flaws <= ROOM);
    for (uint32_t i = 0; i < seen.flaws; i++) {
      HOLDS(flaws[i].kind >= PW_FLAW_PAGE_TYPE && flaws[i].kind <= PW_FLAW_UNREADABLE);
    }
    s->looked += seen.pages;
    HOLDS(s->looked <= s->walk.pages);
    if (status != PW_OK) {
      return;
    }
    if (count < STACKS && share & 1) {
      memset(stacks + count, 0, sizeof *stacks);
      count += pw_parts_split(parts, stacks + count) != 0;
    }
    while (count && stacks[count - 1].count == 0) {
      count--;
    }
    if (count && parts->count == 0 && parts < stacks + count) {
      pw_parts last = stacks[count - 1]; /* its work buffer goes with it */
      uint8_t *buffer = s->work[count - 1];
      s->work[count - 1] = s->work[parts - stacks];
      s->work[parts - stacks] = buffer;
      *parts = last;
      count--;
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t classes[4] = {31, 30, 3, 9};
  if (size < 512 || !pw_page_size_valid(page_size_of(data)) || page_size_of(data) > size) {
    return 0;
  }
  const uint8_t *options = data + 72;
  const uint32_t page_size = page_size_of(data);
  uint8_t allowed[COLUMNS], orders[COLUMNS];
  for (uint32_t i = 0; i < COLUMNS; i++) {
    allowed[i] = classes[options[i] & 3];
    orders[i] = options[4 + i] & 7;
  }
  state s = {.walk = {.page_size = page_size, .pages = (uint32_t)(size / page_size), .encoding = options[8] % 3 + 1}};
  uint32_t depths[1] = {0};
  pw_tree tree[1];
  s.walk.usable = page_size - data[20] >= 480 ? page_size - data[20] : page_size;
  s.walk.pointer_map = pw_get_be32(data + 52) != 0;
  s.walk.tree_count = 1;
  s.walk.column_count = COLUMNS;
  s.walk.trees = tree;
  s.walk.allowed = allowed;
  s.walk.orders = orders;
  s.walk.depths = depths;
  s.source = (pw_source){.wal = -1, .page_size = page_size, .pages = s.walk.pages, .file_size = size};
  s.used_size = s.walk.pages / 8 + 1;
  s.used = calloc(s.used_size, 1);
  s.walk.used = s.used;
  s.walk.users = options[13] & 1 ? calloc(s.walk.pages, 5) : NULL;
  s.work_size = pw_walk_work(page_size);
  static uint8_t *kept[8][STACKS]; /* by page size: large ones take long to allocate */
  for (int i = 0; i < STACKS; i++) {
    uint8_t **buffer = &kept[__builtin_ctz(page_size) - 9][i];
    *buffer = *buffer ? *buffer : malloc(s.work_size);
    HOLDS(*buffer != NULL);
    s.work[i] = *buffer;
  }
  uint8_t *file = own(data, size);
  pw_fuzz_files[0] = (pw_fuzz_file){file, size};
  pw_fuzz_fail_at = options[9] & 1 ? options[10] + 1 : 0;
  for (uint32_t pgno = 1, trees = 0; pgno <= s.walk.pages && trees < TREES; pgno++) {
    const uint8_t kind = file[(size_t)(pgno - 1) * page_size + (pgno == 1 ? 100 : 0)];
    if ((kind != 2 && kind != 5 && kind != 10 && kind != 13) || s.used[pgno >> 3] >> (pgno & 7) & 1) {
      continue;
    }
    trees++;
    depths[0] = 0;
    tree[0] = (pw_tree){.root = pgno, .columns = COLUMNS, .index = (kind & 2) != 0};
    tree[0].keys = tree[0].index ? options[11] % (COLUMNS + 1) : 0;
    pw_parts parts = {0};
    pw_parts_root(&parts, 0);
    run(&s, &parts, options[12] & 7);
  }
  pw_parts parts = {0};
  pw_parts_freelist(&parts, pw_get_be32(data + 32), pw_get_be32(data + 36));
  run(&s, &parts, 0);
  HOLDS(ones(s.used, s.used_size) == s.looked);
  for (uint32_t pgno = 1; s.walk.users && pgno <= s.walk.pages; pgno++) {
    const uint8_t kind = s.walk.users[5 * (size_t)(pgno - 1)];
    HOLDS(kind <= 5 && (s.used[pgno >> 3] >> (pgno & 7) & 1) == (kind != 0));
  }
  uint32_t from = 1, runs[6], used, before = 0;
  do {
    pw_unused(&s.walk, &from, runs, 3, &used);
    for (uint32_t i = 0; i < used; i++) {
      HOLDS(runs[2 * i] > before && runs[2 * i + 1] > 0);
      before = runs[2 * i] + runs[2 * i + 1] - 1;
      HOLDS(before <= s.walk.pages);
    }
  } while (from);
  free(s.walk.users);
  free(s.used);
  free(file);
  return 0;
}

/* The walk over trees: sound pages give no flaw, failing reads are told, shares add up, and noise is harmless. */
#include <errno.h>
#include <unistd.h>

#include "check.h"

#define SIZE 512u
#define ROOM 2048u

static uint8_t *image;
static uint32_t pages;
static const uint8_t allowed[2] = {31, 31}, orders[2] = {0, 0};
static const pw_tree trees[2] = {{.root = 1, .columns = 2}, {.root = 2, .columns = 2, .keys = 2, .index = 1}};

static uint8_t *page(uint32_t pgno) { return image + (size_t)(pgno - 1) * SIZE; }

static void put16(uint8_t *to, uint32_t n) {
  to[0] = (uint8_t)(n >> 8);
  to[1] = (uint8_t)n;
}

static void put32(uint8_t *to, uint32_t n) {
  put16(to, n >> 16);
  put16(to + 2, n);
}

/* Begin a page of the given kind; cells are put at its end. */
static uint32_t begin(uint32_t pgno, uint8_t kind) {
  uint32_t header = pgno == 1 ? 100 : 0;
  memset(page(pgno) + header, 0, SIZE - header);
  page(pgno)[header] = kind;
  put16(page(pgno) + header + 5, SIZE);
  return header;
}

static void cell(uint32_t pgno, const uint8_t *bytes, uint32_t size) {
  uint32_t header = pgno == 1 ? 100 : 0;
  uint8_t *at = page(pgno) + header;
  uint32_t count = (uint32_t)at[3] << 8 | at[4], content = ((uint32_t)at[5] << 8 | at[6]) - size;
  put16(at + 3, count + 1);
  put16(at + 5, content);
  put16(at + (at[0] & 8 ? 8 : 12) + 2 * count, content);
  memcpy(page(pgno) + content, bytes, size);
}

/* A table on page 1 with leaves 3 ... 3+children-1, and an empty index on page 2. */
static void build(uint32_t children) {
  pages = children + 2;
  free(image);
  image = calloc(pages, SIZE);
  CHECK(image != NULL);
  uint32_t root = begin(1, 5);
  begin(2, 10);
  for (uint32_t i = 0; i < children; i++) {
    begin(3 + i, 13);
    for (uint8_t row = 1; row <= 20; row++) {
      const uint32_t rowid = 128 + i * 20 + row;
      uint8_t whole[8] = {5, (uint8_t)(0x80 | rowid >> 7), rowid & 0x7f, 3, 1, 1, row, row};
      cell(3 + i, whole, 8);
    }
    uint32_t last = 128 + i * 20 + 20;
    uint8_t interior[6] = {0, 0, 0, 0, (uint8_t)(0x80 | last >> 7), last & 0x7f};
    put32(interior, 3 + i);
    if (i + 1 < children) {
      cell(1, interior, 6);
    } else {
      put32(page(1) + root + 8, 3 + i);
    }
  }
}

typedef struct {
  pw_walk walk;
  pw_source source;
  uint8_t *used, *work;
  uint32_t depths[2];
  size_t work_size;
} walking;

static walking open_walk(void) {
  walking w = {0};
  w.work_size = pw_walk_work(SIZE);
  w.used = calloc(pages / 8 + 1, 1); /* exact, so that one bit too far is seen */
  w.work = malloc(w.work_size);
  CHECK(w.used != NULL && w.work != NULL);
  w.walk = (pw_walk){.page_size = SIZE, .usable = SIZE, .pages = pages, .encoding = 1, .tree_count = 2,
                     .column_count = 2, .trees = trees, .allowed = allowed, .orders = orders};
  w.source = (pw_source){.database = file_of(image, (size_t)pages * SIZE), .wal = -1, .page_size = SIZE, .pages = pages,
                         .file_size = (uint64_t)pages * SIZE};
  return w;
}

static void close_walk(walking *w) {
  close(w->source.database);
  free(w->used);
  free(w->work);
}

static pw_status step(walking *w, pw_parts *parts, uint32_t budget, pw_flaw *flaws, pw_seen *seen, pw_fault *fault) {
  w->walk.used = w->used;
  w->walk.depths = w->depths;
  return pw_walk_step(&w->walk, &w->source, parts, w->work, w->work_size, budget, flaws, ROOM, seen, fault);
}

static pw_flaw flaws[ROOM];

static void sound_trees_have_no_flaw(void) {
  pw_fault fault;
  pw_seen seen;
  for (uint32_t budget = 1; budget < 40; budget += 3) {
    walking w = open_walk();
    uint32_t looked = 0;
    for (uint32_t tree = 0; tree < 2; tree++) {
      pw_parts parts = {0};
      pw_parts_root(&parts, tree);
      while (parts.count) {
        CHECK(step(&w, &parts, budget, flaws, &seen, &fault) == PW_OK);
        CHECK(seen.flaws == 0 && seen.left_out == 0 && seen.pages <= budget);
        looked += seen.pages;
      }
    }
    CHECK(looked == pages);
    uint32_t from = 1, runs[2], used;
    pw_unused(&w.walk, &from, runs, 1, &used);
    CHECK(used == 0 && from == 0);
    close_walk(&w);
  }
}

static void users_are_noted(void) {
  pw_fault fault;
  pw_seen seen;
  walking w = open_walk();
  w.walk.pointer_map = 0;
  w.walk.users = calloc(pages, 5);
  CHECK(w.walk.users != NULL);
  for (uint32_t tree = 0; tree < 2; tree++) {
    pw_parts parts = {0};
    pw_parts_root(&parts, tree);
    CHECK(step(&w, &parts, pages, flaws, &seen, &fault) == PW_OK && seen.flaws == 0);
  }
  for (uint32_t pgno = 1; pgno <= pages; pgno++) {
    const uint8_t root[5] = {1, 0, 0, 0, 0}, child[5] = {5, 0, 0, 0, 1};
    CHECK(memcmp(w.walk.users + 5 * (size_t)(pgno - 1), pgno <= 2 ? root : child, 5) == 0);
  }
  free(w.walk.users);
  close_walk(&w);
}

static void every_failing_read_is_told(void) {
  pw_fault fault;
  pw_seen seen;
  for (int error = 0; error < 2; error++) {
    int n = 0;
    for (;;) {
      walking w = open_walk();
      pw_parts parts = {0};
      pw_parts_root(&parts, 0);
      faults = (pw_test_faults){.fail_at = ++n, .error = error ? ENXIO : EIO, .most = 900};
      pw_status status = step(&w, &parts, 1000, flaws, &seen, &fault);
      int calls = faults.calls;
      faults = (pw_test_faults){0};
      close_walk(&w);
      if (calls < n) {
        CHECK(status == PW_OK && seen.flaws == 0);
        break;
      }
      if (error) {
        CHECK(status == PW_IO && fault.error == ENXIO);
      } else {
        CHECK(status == PW_OK && seen.flaws >= 1 && flaws[0].kind == PW_FLAW_UNREADABLE && flaws[0].seen == EIO);
      }
    }
    CHECK(n > 3);
  }
}

static void shares_add_up(void) {
  pw_fault fault;
  pw_seen seen;
  walking w = open_walk();
  pw_parts stacks[64] = {{0}};
  uint32_t count = 1, looked = 0;
  pw_parts_root(&stacks[0], 0);
  CHECK(step(&w, &stacks[0], 1, flaws, &seen, &fault) == PW_OK && seen.pages == 1);
  looked += seen.pages;
  CHECK(pw_parts_cut(&stacks[0], 7, &stacks[1]) == 1);
  CHECK(stacks[0].parts[0].next == 7 && stacks[1].parts[0].next == 0 && stacks[1].parts[0].past == 7);
  CHECK(pw_parts_cut(&stacks[0], 7, &stacks[2]) == 0 && pw_parts_cut(&stacks[2], 7, &stacks[3]) == 0);
  count = 2;
  for (uint32_t i = 0; i < count; i++) {
    while (count < 64 && pw_parts_split(&stacks[i], &stacks[count])) {
      count++;
    }
  }
  CHECK(count > 8);
  for (uint32_t i = 0; i < count; i++) {
    while (stacks[i].count) {
      memset(w.work, 0xa5, w.work_size); /* the buffer of another thread: nothing in it is ours */
      memset(stacks[i].held, 0, sizeof stacks[i].held);
      stacks[i].windowed = 0;
      CHECK(step(&w, &stacks[i], 3, flaws, &seen, &fault) == PW_OK && seen.flaws == 0);
      looked += seen.pages;
    }
  }
  CHECK(looked == pages - 1); /* all but the index */
  uint32_t from = 1, runs[2], used;
  pw_unused(&w.walk, &from, runs, 1, &used);
  CHECK(used == 1 && runs[0] == 2 && runs[1] == 1);
  pw_unused(&w.walk, &from, runs, 1, &used);
  CHECK(used == 0 && from == 0);
  close_walk(&w);
}

static void bounds_are_kept(void) {
  pw_fault fault;
  pw_seen seen;
  walking w = open_walk();
  pw_parts parts = {0};
  CHECK(pw_walk_work(513) == 0 && pw_walk_work(0) == 0 && pw_walk_work(65536) > pw_walk_work(512));
  pw_parts_root(&parts, 2);
  CHECK(step(&w, &parts, 1, flaws, &seen, &fault) == PW_ARGUMENT);
  w.work_size--;
  CHECK(step(&w, &parts, 1, flaws, &seen, &fault) == PW_ARGUMENT);
  w.work_size++;
  w.walk.usable = 479;
  CHECK(step(&w, &parts, 1, flaws, &seen, &fault) == PW_ARGUMENT);
  w.walk.usable = SIZE;
  w.source.pages--;
  CHECK(step(&w, &parts, 1, flaws, &seen, &fault) == PW_ARGUMENT);
  w.source.pages++;
  w.walk.column_count = 1;
  pw_parts_root(&parts, 0);
  CHECK(step(&w, &parts, 1, flaws, &seen, &fault) == PW_ARGUMENT);
  close_walk(&w);
}

/* Pages of noise that look like b-tree pages, chains, trunks and ptrmap pages enough to be followed. */
static void noise_is_harmless(void) {
  pw_fault fault;
  pw_seen seen;
  uint64_t state = 4;
  static const uint8_t kinds[] = {2, 5, 10, 13, 0};
  for (int round = 0; round < 1500; round++) {
    for (uint32_t pgno = 1; pgno <= pages; pgno++) {
      uint8_t *at = page(pgno);
      for (uint32_t i = 0; i < SIZE; i++) {
        uint64_t n = noise(&state);
        at[i] = n % 3 ? (uint8_t)(n >> 8 & 0x1f) : (uint8_t)(n >> 8);
      }
      uint32_t header = pgno == 1 ? 100 : 0;
      at[header] = kinds[noise(&state) % 5];
      put16(at + header + 3, (uint32_t)(noise(&state) % 20));
      put16(at + header + 5, (uint32_t)(noise(&state) % 400));
      for (uint32_t i = 0; i < 24; i++) {
        put16(at + header + 8 + 2 * i, (uint32_t)(noise(&state) % 540));
      }
    }
    walking w = open_walk();
    w.walk.pointer_map = round & 1;
    w.walk.encoding = (uint32_t)round % 3 + 1;
    uint32_t looked = 0;
    for (uint32_t tree = 0; tree < 3; tree++) {
      pw_parts parts = {0};
      if (tree == 2) {
        pw_parts_freelist(&parts, 3 + (uint32_t)(noise(&state) % 4), 5);
      } else {
        pw_parts_root(&parts, tree);
      }
      while (parts.count) {
        CHECK(step(&w, &parts, 2, flaws, &seen, &fault) == PW_OK && seen.flaws <= ROOM);
        looked += seen.pages;
      }
    }
    CHECK(looked <= pages);
    close_walk(&w);
  }
}

int main(void) {
  build(40);
  sound_trees_have_no_flaw();
  users_are_noted();
  every_failing_read_is_told();
  shares_add_up();
  bounds_are_kept();
  build(14);
  noise_is_harmless();
  free(image);
  return 0;
}

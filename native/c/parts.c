/* Stacks of parts: beginning, cutting and sharing them; and the pages that no part led to. */
#include "walk.h"

static void begin(pw_parts *parts, pw_part part) {
  parts->parts[0] = part;
  parts->count = 1;
}

void pw_parts_root(pw_parts *parts, uint32_t tree) {
  begin(parts, (pw_part){.kind = PW_PART_ROOT, .tree = tree});
}

void pw_parts_freelist(pw_parts *parts, uint32_t first, uint32_t count) {
  begin(parts, (pw_part){.kind = PW_PART_FREELIST, .tree = PW_NO_TREE, .page = first, .next = 1, .expected = count});
}

/* Give children first ... past-1 of part `level`. */
static void give(const pw_parts *parts, uint32_t level, uint32_t first, uint32_t past, pw_parts *to) {
  begin(to, parts->parts[level]);
  to->parts[0].next = first;
  to->parts[0].past = past;
  memcpy(to->path, parts->path, sizeof to->path);
  const uint32_t depth = parts->parts[0].depth;
  for (uint32_t i = 0; i < level; i++) {
    to->path[depth - 1 + i] = parts->parts[i].next - 1;
  }
}

int pw_parts_cut(pw_parts *parts, uint32_t child, pw_parts *to) {
  if (!parts->count || parts->parts[parts->count - 1].kind != PW_PART_CHILDREN) {
    return 0;
  }
  pw_part *part = parts->parts + parts->count - 1;
  const uint32_t middle = child < part->past ? child : part->past;
  if (part->next >= middle) {
    return 0;
  }
  give(parts, parts->count - 1, part->next, middle, to);
  part->next = middle;
  return 1;
}

int pw_parts_split(pw_parts *parts, pw_parts *to) {
  for (uint32_t i = 0; i < parts->count; i++) {
    pw_part *part = parts->parts + i;
    const uint32_t left = part->kind == PW_PART_CHILDREN ? part->past - part->next : 0;
    if (left > 1 || (left == 1 && i + 1 < parts->count)) {
      const uint32_t middle = part->past - (left + 1) / 2;
      give(parts, i, middle, part->past, to);
      part->past = middle;
      return 1;
    }
  }
  return 0;
}

/* Whether the 64 pages from `pgno` on, a multiple of 64, may be used and are not: sizes that are made up must not take
** a look at each page. */
static int all_unused(const pw_walk *walk, uint32_t pgno) {
  const uint32_t lock = pw_lock_page(walk->page_size);
  uint64_t used;
  memcpy(&used, walk->used + (pgno >> 3), sizeof used);
  return !used && (lock < pgno || lock - pgno >= 64) && !(walk->pointer_map && pw_map_page(walk, pgno + 63) >= pgno);
}

void pw_unused(const pw_walk *walk, uint32_t *from, uint32_t *runs, uint32_t room, uint32_t *used) {
  uint32_t pgno = *from, written = 0, count = 0;
  *used = 0;
  for (; pgno <= walk->pages && pgno; pgno++) {
    const uint8_t some = walk->used[pgno >> 3];
    int free = !(some >> (pgno & 7) & 1) && (pgno == 1 || pw_page_possible(walk, pgno));
    if (free && count == 0 && written == room) {
      break;
    }
    if (free && count++ == 0) {
      runs[2 * (size_t)written] = pgno;
    } else if (!free && count) {
      runs[2 * (size_t)written++ + 1] = count;
      count = 0;
    }
    if (some == 0xff && !count && (pgno & 7) == 0) {
      pgno += 7; /* eight pages in use */
    } else if (count && (pgno & 63) == 0 && walk->pages - pgno >= 64 && all_unused(walk, pgno)) {
      pgno += 63;
      count += 63;
    }
  }
  if (count) {
    runs[2 * (size_t)written++ + 1] = count;
  }
  *used = written;
  *from = pgno <= walk->pages ? pgno : 0;
}

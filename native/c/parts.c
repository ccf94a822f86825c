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

/* Give children from `child` on. */
static int give(pw_part *part, uint32_t child, pw_parts *to) {
  if (part->kind != PW_PART_CHILDREN || child >= part->past) {
    return 0;
  }
  begin(to, *part);
  if (child > part->next) {
    to->parts[0].next = child;
  }
  part->past = to->parts[0].next;
  return 1;
}

int pw_parts_cut(pw_parts *parts, uint32_t child, pw_parts *to) {
  return parts->count ? give(parts->parts, child, to) : 0;
}

int pw_parts_split(pw_parts *parts, pw_parts *to) {
  for (uint32_t i = 0; i < parts->count; i++) {
    pw_part *part = parts->parts + i;
    const uint32_t left = part->kind == PW_PART_CHILDREN ? part->past - part->next : 0;
    if (left > 1 || (left == 1 && i + 1 < parts->count)) {
      return give(part, part->past - (left + 1) / 2, to);
    }
  }
  return 0;
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
    }
  }
  if (count) {
    runs[2 * (size_t)written++ + 1] = count;
  }
  *used = written;
  *from = pgno <= walk->pages ? pgno : 0;
}

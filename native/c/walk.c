/* The walk over the b-trees of one commit, a stack of parts for each thread.
**
** A part is the children next ... past-1 of an interior page, with the bounds that their keys must lie between. The page of
** part i of the stack is kept in slot i of the work buffer. Above it on the stack stands what is looked at within its
** child next-1; so the stack is a path of the tree, and never deeper than a tree may be. */
#include "walk.h"

#define ALIGNED(size) (((size_t)(size) + 63) / 64 * 64)

/* The work buffer: slots of pages, one page for overflow, ptrmap pages, the window, keys, bits, slack. */
static size_t window_size(uint32_t page_size) { return PW_WINDOW + (size_t)page_size; }

size_t pw_walk_work(uint32_t page_size) {
  if (!pw_page_size_valid(page_size)) {
    return 0;
  }
  return ((size_t)PW_PARTS + 3 + PW_MAPS) * page_size + window_size(page_size) +
         ALIGNED(4 * ((size_t)PW_MAX_KEY + PW_SLACK)) + page_size / 8 + PW_SLACK;
}

void pw_report(pw_walking *w, pw_flaw flaw) {
  if (w->seen->flaws - w->visit < PW_PAGE_FLAWS) {
    w->flaws[w->seen->flaws++] = flaw;
  } else {
    w->seen->left_out++;
  }
}

/* What a child is, and how it was come to. */
typedef struct {
  uint32_t tree, pgno, depth;
  uint32_t run; /* pages from it on that are worth reading at once */
  pw_pointer pointer;
  pw_bounds bounds;
} child;

static void about(pw_walking *w, const child *c, pw_flaw_kind kind, uint32_t fields, int64_t expected, int64_t seen) {
  pw_flaw flaw = {.kind = kind, .pgno = c->pgno, .tree = c->tree, .other = c->pointer.holder};
  flaw.fields = fields | (c->pointer.holder && kind != PW_FLAW_PAGE_HEADER ? PW_HAS_OTHER : 0);
  flaw.expected = expected;
  flaw.seen = seen;
  pw_report(w, flaw);
}

/* The bytes of a page: in the window, where leaves are read in runs, else in the slot above the stack. */
static pw_status read_page(pw_walking *w, const child *c, const uint8_t **bytes) {
  pw_parts *parts = w->parts;
  const uint32_t size = w->walk->page_size, pgno = c->pgno;
  if (pgno - parts->window < parts->windowed) {
    *bytes = w->window + (size_t)(pgno - parts->window) * size;
    return PW_OK;
  }
  if (c->run > 1) {
    parts->windowed = 0;
    if (pw_read(w->source, pgno, c->run, w->window, window_size(size), w->fault) == PW_OK) {
      parts->window = pgno;
      parts->windowed = c->run;
      *bytes = w->window;
      return PW_OK;
    } /* else this page alone says what is the matter with it */
  }
  uint8_t *slot = w->slots + (size_t)parts->count * size;
  *bytes = slot;
  parts->held[parts->count] = 0;
  pw_status status = pw_read(w->source, pgno, 1, slot, size, w->fault);
  if (status == PW_OK) {
    parts->held[parts->count] = pgno;
  }
  return status;
}

/* The depth of a tree's leaves, which its first leaf sets. */
static uint32_t leaf_depth(pw_walking *w, uint32_t tree, uint32_t depth) {
  uint32_t first = 0;
  int set = __atomic_compare_exchange_n(w->walk->depths + tree, &first, depth, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return set ? depth : first;
}

static void push_children(pw_walking *w, const child *c, const pw_page *page) {
  pw_parts *parts = w->parts;
  const uint32_t level = parts->count, size = w->walk->page_size;
  uint8_t *slot = w->slots + (size_t)level * size;
  if (page->bytes != slot) {
    memcpy(slot, page->bytes, size);
    parts->held[level] = c->pgno;
  }
  parts->parts[level] = (pw_part){.kind = PW_PART_CHILDREN, .tree = c->tree, .page = c->pgno, .past = page->cells + 1};
  parts->parts[level].depth = c->depth;
  parts->parts[level].bounds = c->bounds;
  parts->count = level + 1;
}

/* Look at one page; if it is an interior page its children are put on the stack. */
static pw_status visit_page(pw_walking *w, const child *c) {
  const pw_walk *walk = w->walk;
  const pw_tree *tree = walk->trees + c->tree;
  if (pw_pointer_take(w, c->pgno, &c->pointer) <= 0) {
    return (pw_status)w->fault->status;
  }
  if (c->depth > PW_MAX_DEPTH) {
    about(w, c, PW_FLAW_DEPTH, PW_HAS_EXPECTED | PW_HAS_SEEN, PW_MAX_DEPTH, c->depth);
    return PW_OK;
  }
  const uint8_t *bytes;
  pw_status status = read_page(w, c, &bytes);
  if (status != PW_OK) {
    return pw_unreadable(w, status, c->pgno, &c->pointer);
  }
  pw_visit visit = {.tree_number = c->tree, .tree = tree, .bounds = &c->bounds};
  const uint8_t kind = bytes[c->pgno == 1 ? 100 : 0];
  if (tree->index ? kind != 2 && kind != 10 : kind != 5 && kind != 13) {
    about(w, c, PW_FLAW_PAGE_TYPE, PW_HAS_SEEN, 0, kind);
    return PW_OK;
  }
  const int sound = pw_page_open(walk, bytes, c->pgno, &visit.page);
  const pw_page *page = &visit.page;
  if (page->leaf) {
    uint32_t depth = leaf_depth(w, c->tree, c->depth);
    if (depth != c->depth) {
      about(w, c, PW_FLAW_DEPTH, PW_HAS_EXPECTED | PW_HAS_SEEN, depth, c->depth);
    }
  }
  if (!sound) {
    about(w, c, PW_FLAW_PAGE_HEADER, PW_HAS_EXPECTED | PW_HAS_SEEN, pw_most_cells(walk->page_size), page->cells);
    return PW_OK;
  }
  if (page->cells == 0 && (c->pointer.holder || !(page->leaf || c->pgno == 1))) {
    about(w, c, PW_FLAW_EMPTY_PAGE, 0, 0, 0);
  }
  const uint32_t content = pw_content(page);
  if (content != page->content) {
    const uint32_t bound = content > page->usable ? page->usable : page->content;
    about(w, c, PW_FLAW_PAGE_HEADER, PW_HAS_EXPECTED | PW_HAS_SEEN, bound, content);
    visit.broken = 1;
  }
  status = pw_page_check(w, &visit);
  if (status == PW_OK && !page->leaf) {
    push_children(w, c, page);
  }
  return status;
}

/* Parse cell `i` of an interior page; whether it holds. */
static int cell_holds(const pw_walking *w, const pw_page *page, uint32_t i, pw_cell *cell) {
  *cell = (pw_cell){0};
  return pw_cell_parse(w, page, i, 0, page->index, cell) == 0;
}

/* The number of child `i` of an interior page: 0 where its cell does not hold. */
static uint32_t child_page(const pw_walking *w, const pw_page *page, uint32_t i) {
  pw_cell cell;
  if (i == page->cells) {
    return pw_get_be32(page->bytes + page->header + 8);
  }
  return cell_holds(w, page, i, &cell) ? cell.child : 0;
}

/* The bounds of child `i`: the cells of the page beside it, where they hold, else the page's own. */
static pw_bounds child_bounds(const pw_walking *w, const pw_page *page, const pw_part *part, uint32_t i) {
  pw_bounds bounds = part->bounds;
  pw_cell cell;
  uint32_t before = i;
  while (before > 0 && !cell_holds(w, page, before - 1, &cell)) {
    before--;
  }
  if (before > 0) {
    bounds.has_low = 1;
    bounds.low = cell.rowid;
    bounds.low_page = page->pgno;
    bounds.low_cell = before - 1;
  }
  if (i < page->cells && cell_holds(w, page, i, &cell)) {
    bounds.has_high = 1;
    bounds.high = cell.rowid;
    bounds.high_page = page->pgno;
    bounds.high_cell = i;
  }
  return bounds;
}

/* How many pages from `first` on, child `i`, hold leaves that are looked at next, gaps of PW_GAP pages aside. */
static uint32_t leaf_run(const pw_walking *w, const pw_page *page, const pw_part *part, uint32_t i, uint32_t first) {
  const uint32_t most = (uint32_t)(window_size(w->walk->page_size) / w->walk->page_size);
  uint32_t last = first;
  while (++i < part->past) {
    uint32_t next = child_page(w, page, i);
    if (next <= last || next - last > 1 + PW_GAP || next - first >= most || next > w->walk->pages) {
      break;
    }
    last = next;
  }
  return last - first + 1;
}

/* Take the next child off the part on top of the stack, and look at it. */
static pw_status visit_child(pw_walking *w) {
  pw_parts *parts = w->parts;
  const uint32_t level = parts->count - 1, size = w->walk->page_size;
  pw_part *part = parts->parts + level;
  uint8_t *slot = w->slots + (size_t)level * size;
  w->visit = w->seen->flaws;
  if (parts->held[level] != part->page) { /* it was given to this stack */
    parts->held[level] = 0;
    pw_status status = pw_read(w->source, part->page, 1, slot, size, w->fault);
    if (status != PW_OK) {
      const pw_pointer pointer = {.tree = part->tree};
      parts->count--;
      return pw_unreadable(w, status, part->page, &pointer);
    }
    parts->held[level] = part->page;
  }
  pw_page page;
  const uint32_t i = part->next++;
  if (!pw_page_open(w->walk, slot, part->page, &page) || page.leaf || i > page.cells) {
    return pw_fail(w->fault, PW_ARGUMENT, 0, part->page, 0); /* another commit than at first */
  }
  pw_cell cell;
  if (i < page.cells && !cell_holds(w, &page, i, &cell)) {
    return PW_OK;
  }
  child c = {.tree = part->tree, .depth = part->depth + 1, .pgno = child_page(w, &page, i), .run = 1};
  c.pointer = (pw_pointer){.tree = part->tree, .holder = part->page, .cell = i < page.cells ? i : UINT32_MAX};
  c.pointer.map_type = 5;
  c.pointer.map_parent = part->page;
  c.bounds = child_bounds(w, &page, part, i);
  if (__atomic_load_n(w->walk->depths + part->tree, __ATOMIC_RELAXED) == c.depth &&
      c.pgno - parts->window >= parts->windowed && pw_page_possible(w->walk, c.pgno)) {
    c.run = leaf_run(w, &page, part, i, c.pgno);
  }
  return visit_page(w, &c);
}

static pw_status visit_root(pw_walking *w) {
  const uint32_t tree = w->parts->parts[--w->parts->count].tree;
  if (tree >= w->walk->tree_count) {
    return pw_fail(w->fault, PW_ARGUMENT, 0, 0, tree);
  }
  const pw_tree *it = w->walk->trees + tree;
  if ((uint64_t)it->first + it->columns > w->walk->column_count || it->keys > it->columns) {
    return pw_fail(w->fault, PW_ARGUMENT, 0, it->root, tree);
  }
  child c = {.tree = tree, .pgno = it->root, .depth = 1, .run = 1};
  c.pointer = (pw_pointer){.tree = tree, .cell = UINT32_MAX, .map_type = 1};
  w->visit = w->seen->flaws;
  return visit_page(w, &c);
}

static int arguments_valid(const pw_walk *walk, const pw_source *source, const pw_parts *parts, size_t work_size,
                           uint32_t room) {
  return pw_page_size_valid(walk->page_size) && walk->usable >= 480 && walk->usable <= walk->page_size &&
         walk->pages < UINT32_MAX && source->page_size == walk->page_size && source->pages == walk->pages &&
         work_size >= pw_walk_work(walk->page_size) && room >= PW_PAGE_FLAWS && parts->count < PW_PARTS;
}

pw_status pw_walk_step(const pw_walk *walk, const pw_source *source, pw_parts *parts, uint8_t *work, size_t work_size,
                       uint32_t budget, pw_flaw *flaws, uint32_t room, pw_seen *seen, pw_fault *fault) {
  *fault = (pw_fault){0};
  *seen = (pw_seen){0};
  if (!arguments_valid(walk, source, parts, work_size, room)) {
    return pw_fail(fault, PW_ARGUMENT, 0, 0, 0);
  }
  const size_t size = walk->page_size;
  pw_walking w = {.walk = walk, .source = source, .parts = parts, .flaws = flaws, .seen = seen, .fault = fault};
  w.most_leaf = walk->usable - 35;
  w.most = (walk->usable - 12) * 64 / 255 - 23;
  w.least = (walk->usable - 12) * 32 / 255 - 23;
  w.slots = work;
  w.maps = w.slots + (PW_PARTS + 3) * size;
  w.window = w.maps + PW_MAPS * size;
  w.keys = w.window + window_size(walk->page_size);
  w.bits = w.keys + ALIGNED(4 * ((size_t)PW_MAX_KEY + PW_SLACK));
  pw_status status = PW_OK;
  while (status == PW_OK && parts->count && seen->pages < budget && room - seen->flaws >= PW_PAGE_FLAWS) {
    pw_part *part = parts->parts + parts->count - 1;
    if (part->kind == PW_PART_FREELIST) {
      w.visit = seen->flaws;
      status = pw_trunk_visit(&w, part);
    } else if (part->kind == PW_PART_ROOT) {
      status = visit_root(&w);
    } else if (part->next >= part->past) {
      parts->count--;
    } else {
      status = visit_child(&w);
    }
  }
  return status;
}

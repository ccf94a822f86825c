/* What the units of the structure walk share: one call's state, pages, cells, records and keys.
**
** A page in memory is always followed by at least PW_SLACK readable bytes, so that varints are decoded without a look
** at the page's end and judged afterwards. */
#ifndef PAGEWARDEN_WALK_H
#define PAGEWARDEN_WALK_H

#include "bytes.h"

#define PW_SLACK 64u
#define PW_MAX_DEPTH 20u
#define PW_MAX_KEY 65536u      /* bytes of a key or record header that are put together */
#define PW_MAX_HEADER 98307u   /* bytes of a record header: 32767 columns, as in SQLite's OP_Column */
#define PW_WINDOW (128u << 10) /* bytes of leaves read at once */
#define PW_GAP 1u              /* pages between leaves that are read for the sake of one long read */

#define PW_QUICK 64u           /* columns of a record that is judged quickly */

#define PW_ALWAYS_INLINE static inline __attribute__((always_inline))
#define PW_COLD __attribute__((cold, noinline))

/* The state of one call. */
typedef struct {
  const pw_walk *walk;
  const pw_source *source;
  pw_parts *parts;
  pw_flaw *flaws;
  pw_seen *seen;
  pw_fault *fault;
  uint32_t visit;     /* flaws before this visit */
  uint32_t most_leaf; /* the largest payload that a table leaf keeps whole */
  uint32_t most;      /* the same for index pages */
  uint32_t least;     /* what stays of a larger one, at least */
  const pw_tree *tree;       /* whose columns these are: */
  uint8_t refused[PW_QUICK]; /* for each the pw_class bits that it must not have */
  /* the work buffer */
  uint8_t *slots, *maps, *window, *keys, *bits;
} pw_walking;

/* A b-tree page whose header holds. */
typedef struct {
  const uint8_t *bytes;
  uint32_t pgno, usable;
  uint32_t header;   /* where its header begins */
  uint32_t cells;    /* how many */
  uint32_t pointers; /* where the cell pointers begin */
  uint32_t content;  /* where cells may begin */
  uint32_t leaf, index;
} pw_page;

typedef struct {
  uint32_t offset, end; /* on the page; it takes 4 bytes at least */
  uint32_t child;
  uint32_t local;   /* bytes of the payload on the page */
  uint32_t payload; /* all bytes of it */
  int64_t rowid;
  const uint8_t *at; /* the payload */
  int64_t seen;      /* of a cell that does not hold: what is wrong */
} pw_cell;

/* What a look at a record's header gives. */
typedef enum {
  PW_RECORD_WHOLE = 0,     /* the header is there and could be read */
  PW_RECORD_ELSEWHERE = 1, /* it is not all there */
  PW_RECORD_NO_LENGTH = 2, /* the varint of its length runs past the payload */
  PW_RECORD_BROKEN = 3     /* its length cannot be, or a serial type runs past it */
} pw_record_state;

typedef struct {
  uint64_t header;  /* its length */
  uint64_t total;   /* header and values */
  uint64_t need;    /* header and the values of the first `keys` columns */
  uint32_t columns; /* how many */
  uint32_t wrong;   /* pw_class bits that some column must not have */
} pw_record;

typedef enum { PW_BELOW = -1, PW_EQUAL = 0, PW_ABOVE = 1, PW_UNDECIDED = 2 } pw_comparison;

/* Where a pointer to a page stands, and what it belongs to. */
typedef struct {
  uint32_t tree;
  uint32_t fields; /* PW_HAS_ROWID if `rowid` is to be told */
  int64_t rowid;
  uint32_t holder;      /* the page that holds the pointer, 0: the schema, which names roots */
  uint32_t cell;        /* which of its cells or leaves, UINT32_MAX: none */
  uint32_t chain;       /* of a later page of a chain: the b-tree page, else 0 */
  uint32_t map_type;    /* of the ptrmap entry that it must have */
  uint32_t map_parent;
} pw_pointer;

/* What one visit of a b-tree page knows. */
typedef struct {
  pw_page page;
  uint32_t tree_number;
  const pw_tree *tree;
  const pw_bounds *bounds;
  uint32_t broken;      /* whether the content area is not known */
  uint32_t flawed;      /* whether a cell or free block did not hold */
  uint32_t overlapping; /* whether two of them share bytes */
  uint32_t marked;      /* whether `bits` are in use */
  uint32_t run, run_end; /* a run of bytes in use that is not in `bits` yet */
  uint64_t total;       /* bytes in use */
  const uint8_t *previous; /* the record of the last cell that could be compared, NULL: none yet */
  uint32_t previous_cell;
  uint32_t buffer; /* which of the first two key buffers is free */
} pw_visit;

/* One page's most cells: SQLite's MX_CELL. */
static inline uint32_t pw_most_cells(uint32_t page_size) { return (page_size - 8) / 6; }

PW_ALWAYS_INLINE uint32_t pw_get_be16(const uint8_t *from) { return (uint32_t)from[0] << 8 | from[1]; }

/* Where the content area begins, as the header says: 0 means 65536. */
static inline uint32_t pw_content(const pw_page *page) {
  const uint32_t content = pw_get_be16(page->bytes + page->header + 5);
  return content ? content : 65536;
}

/* SQLite's varint of 1 to 9 bytes; returns how many there were. */
PW_ALWAYS_INLINE uint32_t pw_varint(const uint8_t *from, uint64_t *value) {
  if (from[0] < 0x80) {
    *value = from[0];
    return 1;
  }
  if (from[1] < 0x80) {
    *value = (uint64_t)(from[0] & 0x7f) << 7 | from[1];
    return 2;
  }
  uint64_t n = (uint64_t)(from[0] & 0x7f) << 7 | (from[1] & 0x7f);
  for (uint32_t i = 2; i < 8; i++) {
    n = n << 7 | (from[i] & 0x7f);
    if (from[i] < 0x80) {
      *value = n;
      return i + 1;
    }
  }
  *value = n << 8 | from[8];
  return 9;
}

/* Bytes of a value by its serial type; the reserved types take none. */
PW_ALWAYS_INLINE uint64_t pw_serial_size(uint64_t serial) {
  static const uint8_t sizes[12] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0};
  return serial < 12 ? sizes[serial] : (serial - 12) / 2;
}

PW_ALWAYS_INLINE uint32_t pw_serial_class(uint64_t serial) {
  static const uint8_t classes[12] = {PW_CLASS_NULL,    PW_CLASS_INTEGER, PW_CLASS_INTEGER,  PW_CLASS_INTEGER,
                                      PW_CLASS_INTEGER, PW_CLASS_INTEGER, PW_CLASS_INTEGER,  PW_CLASS_REAL,
                                      PW_CLASS_INTEGER, PW_CLASS_INTEGER, PW_CLASS_RESERVED, PW_CLASS_RESERVED};
  return serial < 12 ? classes[serial] : serial & 1 ? PW_CLASS_TEXT : PW_CLASS_BLOB;
}

/* How many bytes of a payload stay on the page (file format, section 1.6). */
PW_ALWAYS_INLINE uint32_t pw_local(const pw_walking *w, uint32_t payload, uint32_t most) {
  if (payload <= most) {
    return payload;
  }
  uint32_t local = w->least + (payload - w->least) % (w->walk->usable - 4);
  return local <= most ? local : w->least;
}

/* Take cell `index` of a page apart: 0, PW_FLAW_CELL_POINTER or PW_FLAW_CELL_SIZE. */
PW_ALWAYS_INLINE uint32_t pw_cell_parse(const pw_walking *w, const pw_page *page, uint32_t index, uint32_t leaf,
                                        uint32_t is_index, pw_cell *cell) {
  const uint32_t offset = pw_get_be16(page->bytes + page->pointers + 2 * index);
  cell->offset = offset;
  if (offset < page->content || offset > page->usable - 4) {
    cell->seen = offset;
    return PW_FLAW_CELL_POINTER;
  }
  const uint8_t *start = page->bytes + offset, *at = start;
  uint64_t payload = 0, rowid = 0;
  if (!leaf) {
    cell->child = pw_get_be32(at);
    at += 4;
  }
  if (leaf || is_index) {
    at += pw_varint(at, &payload);
  }
  if (!is_index) {
    at += pw_varint(at, &rowid);
    cell->rowid = (int64_t)rowid;
  }
  uint32_t end = offset + (uint32_t)(at - start);
  if (end > page->usable) {
    cell->seen = (int64_t)page->usable + 1;
    return PW_FLAW_CELL_SIZE;
  }
  if (leaf || is_index) {
    if (payload > 0x7fffffff) {
      cell->seen = payload > INT64_MAX ? INT64_MAX : (int64_t)payload;
      return PW_FLAW_CELL_SIZE;
    }
    cell->payload = (uint32_t)payload;
    cell->local = pw_local(w, cell->payload, is_index ? w->most : w->most_leaf);
    cell->at = at;
    end += cell->local + (cell->local < cell->payload ? 4 : 0);
  }
  if (end < offset + 4) {
    end = offset + 4;
  }
  cell->end = end;
  if (end > page->usable) {
    cell->seen = end;
    return PW_FLAW_CELL_SIZE;
  }
  return 0;
}

/* walk.c */
void pw_report(pw_walking *w, pw_flaw flaw);

/* btree.c */
int pw_page_open(const pw_walk *walk, const uint8_t *bytes, uint32_t pgno, pw_page *page);
pw_status pw_page_check(pw_walking *w, pw_visit *visit);

/* space.c: which bytes of a page are in use */
void pw_space_use(pw_walking *w, pw_visit *visit, uint32_t start, uint32_t end);
void pw_space_check(pw_walking *w, pw_visit *visit);

/* record.c */
int pw_record_flaws(pw_walking *w, const pw_visit *visit, const pw_cell *cell, uint32_t index, const uint8_t *at,
                    pw_record_state state, const pw_record *record);

/* keys.c */
pw_comparison pw_keys_compare(const pw_walk *walk, const pw_tree *tree, const uint8_t *left, const uint8_t *right);

/* chain.c */
int pw_pointer_take(pw_walking *w, uint32_t pgno, const pw_pointer *pointer);
int pw_page_possible(const pw_walk *walk, uint32_t pgno);
uint32_t pw_map_page(const pw_walk *walk, uint32_t pgno);
pw_status pw_unreadable(pw_walking *w, pw_status status, uint32_t pgno, const pw_pointer *pointer);
pw_status pw_chain_walk(pw_walking *w, const pw_visit *visit, const pw_cell *cell, uint32_t index, uint8_t *to,
                        uint32_t want, uint32_t *got);
pw_status pw_chain_gather(pw_walking *w, const pw_cell *cell, uint8_t *to, uint32_t want, uint32_t *got);

/* bounds.c */
pw_status pw_bound_key(pw_walking *w, const pw_tree *tree, uint32_t pgno, uint32_t cell, uint32_t which,
                       const uint8_t **key);

/* freelist.c */
pw_status pw_trunk_visit(pw_walking *w, pw_part *part);

/* source.c: `size` bytes of a page from byte `at` on */
pw_status pw_read_part(const pw_source *source, uint32_t pgno, uint32_t at, uint32_t size, uint8_t *to,
                       pw_fault *fault);

#endif

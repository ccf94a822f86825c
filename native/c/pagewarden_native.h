/* The hot loops of Pagewarden's page reader.
**
** Rules that every function here keeps:
**   - No Python.h, no global state, no SQLite, no printing, no allocation: the caller owns every buffer.
**   - Every byte of input is hostile. Widths are widened before they are multiplied, each count is bounded by the
**     size of a buffer, and no loop can outrun its input.
**   - Files are read with pread only: a mapping of a file that shrinks is a SIGBUS.
**   - Every function that can fail returns a pw_status and fills a pw_fault.
**   - Functions share nothing but their arguments, so any number of threads may call them at once.
**
** Page images. A "source" says how to read the pages of one commit: a page is its frame in the WAL if the map names
** one, else it comes from the database file, else (within the commit's size, beyond the file's end) it is zeros. The
** lock-byte page, at byte 2^30 of the file, never holds data: it reads as zeros and its sum is 0.
**
** Numbers in buffers (sums, maps) are little-endian whatever the machine.
*/
#ifndef PAGEWARDEN_NATIVE_H
#define PAGEWARDEN_NATIVE_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

#define PW_ABI 6

typedef enum {
  PW_OK = 0,
  PW_ARGUMENT = 1,   /* an argument is out of its bounds; nothing was read */
  PW_IO = 2,         /* a read failed: fault.error is the errno */
  PW_SHORT_READ = 3, /* the file ends before the byte that it was believed to hold */
  PW_BAD_FRAME = 4,  /* not one whole zstd frame of exactly the expected pages */
  PW_COMPRESS = 5    /* the compressor failed */
} pw_status;

typedef struct {
  int status;      /* a pw_status */
  int error;       /* errno for PW_IO, else 0 */
  uint32_t pgno;   /* page in question, or 0 */
  uint64_t offset; /* byte of the file or buffer in question */
} pw_fault;

typedef struct {
  int database;          /* descriptor of the database file */
  int wal;               /* descriptor of the -wal, -1 where it is not used */
  uint32_t page_size;    /* bytes: a power of two from 512 to 65536 */
  uint32_t pages;        /* size of the commit, in pages */
  uint64_t file_size;    /* bytes of the database file to believe */
  const uint8_t *frames; /* page-to-frame map: u32 pgno, u32 frame; sorted by pgno */
  uint32_t frame_count;  /* entries of the map */
} pw_source;

/* The functions of libzstd that are called, as addresses: this module links with no zstd. */
typedef struct {
  size_t (*compress)(void *context, void *to, size_t to_size, const void *from, size_t from_size, int level);
  size_t (*decompress)(void *context, void *to, size_t to_size, const void *from, size_t from_size);
  size_t (*frame_size)(const void *from, size_t from_size);
  unsigned long long (*content_size)(const void *from, size_t from_size);
  unsigned (*is_error)(size_t code);
} pw_zstd;

/* How the chain of valid frames in a WAL ended. */
typedef enum {
  PW_WAL_LIMIT = 0,      /* at the limit that the caller gave */
  PW_WAL_END = 1,        /* at the end of the file, after a whole frame */
  PW_WAL_PARTIAL = 2,    /* the file ends within a frame */
  PW_WAL_SALTS = 3,      /* a frame has other salts than the header: an older generation */
  PW_WAL_PGNO = 4,       /* a frame names page 0 */
  PW_WAL_CHECKSUM = 5,   /* a frame's checksum does not match */
  PW_WAL_NO_HEADER = 6,  /* the file is shorter than a header */
  PW_WAL_BAD_HEADER = 7, /* wrong magic, version, page size or header checksum */
  PW_WAL_PAGE_SIZE = 8   /* the header's page size is not the database's */
} pw_wal_end;

typedef struct {
  /* of the header */
  uint32_t page_size;
  uint32_t sequence;
  int32_t big_endian;
  uint8_t salts[8]; /* as stored */
  /* of the chain */
  uint32_t valid;        /* frames in the chain so far */
  uint32_t checksum[2];  /* running, at frame `valid` */
  uint32_t commit;       /* last commit frame so far, 0 where there is none */
  uint32_t commit_pages; /* its commit field: size of the database, in pages */
  uint32_t commit_checksum[2];
  uint32_t commits;         /* commit frames so far */
  uint32_t first_page_one;  /* the first frame so far that holds page 1, 0 where there is none */
  uint32_t page_one;        /* the last one so far */
  uint32_t commit_page_one; /* the last one up to frame `commit` */
  int32_t done;             /* whether the chain has ended */
  int32_t end;              /* a pw_wal_end, once done */
} pw_wal;

/* What is wrong with a page: pagewarden/structure.py has the same numbers and says what each field means. */
typedef enum {
  PW_FLAW_PAGE_TYPE = 1,
  PW_FLAW_PAGE_NUMBER = 2,
  PW_FLAW_PAGE_HEADER = 3,
  PW_FLAW_CELL_POINTER = 4,
  PW_FLAW_CELL_SIZE = 5,
  PW_FLAW_CELL_OVERLAP = 6,
  PW_FLAW_FREE_BLOCK = 7,
  PW_FLAW_FRAGMENTS = 8,
  PW_FLAW_ROWID_ORDER = 9,
  PW_FLAW_KEY_ORDER = 10,
  PW_FLAW_DEPTH = 11,
  PW_FLAW_OVERFLOW_LENGTH = 12,
  PW_FLAW_TWICE = 13,
  PW_FLAW_UNUSED = 14, /* never given by pw_walk_step: see pw_unused */
  PW_FLAW_FREELIST_COUNT = 15,
  PW_FLAW_FREELIST_TRUNK = 16,
  PW_FLAW_POINTER_MAP = 17,
  PW_FLAW_RECORD_HEADER = 18,
  PW_FLAW_SERIAL_TYPE = 19,
  PW_FLAW_NOT_NULL = 20,
  PW_FLAW_STRICT_TYPE = 21,
  PW_FLAW_EMPTY_PAGE = 22,
  PW_FLAW_UNREADABLE = 23
} pw_flaw_kind;

/* Which fields of a flaw apply. */
typedef enum {
  PW_HAS_CELL = 1,
  PW_HAS_COLUMN = 2,
  PW_HAS_OTHER = 4,
  PW_HAS_ROWID = 8,
  PW_HAS_EXPECTED = 16,
  PW_HAS_SEEN = 32
} pw_flaw_fields;

typedef struct {
  uint32_t kind; /* a pw_flaw_kind */
  uint32_t pgno;
  uint32_t tree;   /* its place in the plan, PW_NO_TREE for the freelist */
  uint32_t fields; /* pw_flaw_fields */
  uint32_t cell, column, other;
  int64_t rowid, expected, seen;
} pw_flaw;

#define PW_NO_TREE 0xffffffff
#define PW_PAGE_FLAWS 100 /* flaws of one visit that are told apart */
#define PW_PARTS 24       /* a path of 20 pages, and room */
#define PW_MAPS 32        /* ptrmap pages that a thread keeps */

/* Classes of serial types, as bits of what a column may hold. */
typedef enum {
  PW_CLASS_NULL = 1,
  PW_CLASS_INTEGER = 2,
  PW_CLASS_REAL = 4,
  PW_CLASS_TEXT = 8,
  PW_CLASS_BLOB = 16,
  PW_CLASS_RESERVED = 32 /* serial types 10 and 11 */
} pw_class;

/* How an indexed column is compared: a collation, and whether its order is descending. */
typedef enum {
  PW_ORDER_BINARY = 0,
  PW_ORDER_NOCASE = 1,
  PW_ORDER_RTRIM = 2,
  PW_ORDER_UNKNOWN = 3,
  PW_ORDER_DESCENDING = 4
} pw_order;

typedef struct {
  uint32_t root;
  uint32_t columns; /* how many are known */
  uint32_t first;   /* where they begin in the plan's `allowed` and `orders` */
  uint32_t keys;    /* how many of them order an index; 0: its order is not judged */
  uint32_t index;   /* 0: keys are rowids */
} pw_tree;

/* A walk over all b-trees of one commit. `used`, `depths` and `users` are zeros at first, and shared by all threads. */
typedef struct {
  uint32_t page_size, usable, pages;
  uint32_t encoding;    /* 1 UTF-8, 2 UTF-16le, 3 UTF-16be */
  uint32_t pointer_map; /* whether there are ptrmap pages */
  uint32_t tree_count, column_count;
  const pw_tree *trees;
  const uint8_t *allowed; /* for each column the pw_class bits that it may hold */
  const uint8_t *orders;  /* for each column its pw_order */
  uint8_t *used;          /* a bit for each page, pages / 8 + 1 bytes */
  uint32_t *depths;       /* for each tree the depth of its first leaf */
  uint8_t *users;         /* NULL, or zeros, 5 bytes for each page: see pw_pointer_take */
} pw_walk;

/* What the keys below a page must lie between. */
typedef struct {
  uint32_t has_low, has_high;
  int64_t low, high; /* rowids: low < key <= high */
  /* indexes: the cells that hold the bounds */
  uint32_t low_page, low_cell, high_page, high_cell;
} pw_bounds;

/* The kinds of parts. */
typedef enum { PW_PART_ROOT = 0, PW_PART_CHILDREN = 1, PW_PART_FREELIST = 2 } pw_part_kind;

/* A part of what is to be walked: a whole tree, children of one interior page, or the rest of the freelist. */
typedef struct {
  uint32_t kind; /* a pw_part_kind */
  uint32_t tree;
  uint32_t page;       /* the interior page; freelist: the next trunk */
  uint32_t next, past; /* its children next ... past-1; freelist: next = the trunk before */
  uint32_t depth;    /* of the page; its tree's root has 1 */
  uint32_t broken;   /* freelist: whether its count cannot be known */
  uint64_t counted;  /* freelist: pages so far */
  uint64_t expected; /* freelist: pages, as the header counts */
  pw_bounds bounds;
} pw_part;

/* The stack of one thread, all zeros at first. What it says of pages describes the contents of one work buffer. */
typedef struct {
  uint32_t count;
  uint32_t window, windowed;   /* first page and number of pages in the window */
  uint32_t held[PW_PARTS + 2]; /* which page each slot holds, 0: none */
  uint32_t maps[PW_MAPS];
  uint32_t path[PW_PARTS]; /* the children that lead from the root to the page of the bottom part */
  pw_part parts[PW_PARTS];
} pw_parts;

/* What one call saw. */
typedef struct {
  uint32_t flaws;
  uint32_t pages;
  uint64_t left_out;
  uint64_t unordered;
} pw_seen;

/* XXH64 of `size` bytes. https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md */
uint64_t pw_xxh64(const uint8_t *data, size_t size, uint64_t seed);

/* XOR of `count` sums of 8 bytes each. */
uint64_t pw_fold(const uint8_t *sums, size_t count);

/* Read pages first ... first+count-1 into `to`, which holds at least count * page_size bytes. */
pw_status pw_read(const pw_source *source, uint32_t first, uint32_t count, uint8_t *to, size_t to_size,
                  pw_fault *fault);

/* Write the sums of pages first ... first+count-1 to `sums`, 8 bytes each. `buffer` holds at least one page. */
pw_status pw_sums(const pw_source *source, uint32_t first, uint32_t count, uint8_t *buffer, size_t buffer_size,
                  uint8_t *sums, size_t sums_size, pw_fault *fault);

/* Write the sums of `count` pages that stand in `pages` to `sums`. */
pw_status pw_buffer_sums(const uint8_t *pages, size_t pages_size, uint32_t page_size, uint32_t first, uint32_t count,
                         uint8_t *sums, size_t sums_size, pw_fault *fault);

/* Write the sums of `count` pages that stand in `pages` one after the other to `sums`. `numbers` holds their page
** numbers, 4 bytes each. */
pw_status pw_listed_sums(const uint8_t *pages, size_t pages_size, uint32_t page_size, const uint8_t *numbers,
                         size_t numbers_size, uint32_t count, uint8_t *sums, size_t sums_size, pw_fault *fault);

/* Read pages into `pages`, write their sums to `sums` and one zstd frame of them to `to`; its size to `*used`. */
pw_status pw_compress(const pw_source *source, uint32_t first, uint32_t count, const pw_zstd *zstd, void *context,
                      int level, uint8_t *pages, size_t pages_size, uint8_t *sums, size_t sums_size, uint8_t *to,
                      size_t to_size, size_t *used, pw_fault *fault);

/* Decode one zstd frame that must hold exactly `count` pages into `to`, and write their sums to `sums`. */
pw_status pw_decompress(const pw_zstd *zstd, void *context, const uint8_t *frame, size_t frame_size,
                        uint32_t page_size, uint32_t first, uint32_t count, uint8_t *to, size_t to_size,
                        uint8_t *sums, size_t sums_size, pw_fault *fault);

/* Read and judge the header of a WAL. `page_size` 0 believes the header's. */
pw_status pw_wal_begin(int wal, uint32_t page_size, pw_wal *state, pw_fault *fault);

/* Follow the chain over at most `room` more frames and not past frame `limit`. For each valid frame an entry (u32 pgno, u32
** frame) is written to `entries`; the number of entries goes to `*used`. `buffer` holds at least one frame. */
pw_status pw_wal_follow(int wal, uint32_t limit, pw_wal *state, uint8_t *buffer, size_t buffer_size, uint8_t *entries,
                        uint32_t room, uint32_t *used, pw_fault *fault);

/* Follow the chain in the same way, and keep what stands in it: for each valid frame its page number and its commit field
** (u32 each), the sum of its page (u64) and, unless `pages` is NULL, the page itself. `state` may begin at any frame:
** page_size, big_endian, salts, valid and checksum are to be set, all else zeros. */
pw_status pw_wal_take(int wal, uint32_t limit, pw_wal *state, uint8_t *buffer, size_t buffer_size, uint8_t *numbers,
                      uint8_t *sizes, uint8_t *sums, uint8_t *pages, size_t pages_size, uint32_t room, uint32_t *used,
                      pw_fault *fault);

/* Where going through commits has come to. */
typedef struct {
  uint32_t page_size;
  uint32_t pages;        /* size of the database, in pages */
  uint64_t database_sum; /* XOR of all its page sums */
  uint32_t place;        /* the first frame that was not gone through, counted from 0 */
} pw_following;

/* Go through the plain commits (see follow.c) of a run of `count` frames, from frame state->place on, up to one that is
** not plain. `table` has the sums of pages 1 ... `room`, of which those beyond the database's size mean nothing; it is
** changed, and for each frame what was in the table goes to `old`, `count` numbers. For each commit three numbers go to
** `rows`, which has room for `count` of them: pages of the database, pages that changed, database sum. */
pw_status pw_follow(const uint32_t *numbers, const uint32_t *sizes, const uint8_t *sums, uint32_t count,
                    pw_following *state, uint64_t *table, uint64_t room, uint64_t *rows, uint64_t *old, uint32_t *used,
                    pw_fault *fault);

/* Sort `count` entries, given in the order of their frames, by pgno, and keep the last frame of each. `scratch` is as
** large as `entries`. The number of entries that remain goes to `*used`. */
void pw_wal_map(uint8_t *entries, uint8_t *scratch, uint32_t count, uint32_t *used);

/* Write a byte for each page to `holds`: 1 where the checksum that cksumvfs keeps in the last 8 bytes of the page holds,
** else 0. `buffer` holds at least one page, `holds` at least `count` bytes. */
pw_status pw_reserved_sums(const pw_source *source, uint32_t first, uint32_t count, uint8_t *buffer,
                           size_t buffer_size, uint8_t *holds, size_t holds_size, pw_fault *fault);

/* Bytes of the work buffer that belongs to one pw_parts. */
size_t pw_walk_work(uint32_t page_size);

/* Put a whole tree on the stack, or the freelist that begins at trunk page `first`. The stack must be empty. */
void pw_parts_root(pw_parts *parts, uint32_t tree);
void pw_parts_freelist(pw_parts *parts, uint32_t first, uint32_t count);

/* Give the children of the top part before `child` to the empty stack `to`; whether there were any. */
int pw_parts_cut(pw_parts *parts, uint32_t child, pw_parts *to);

/* Give about half of what is largest to the empty stack `to`; whether there was enough to share. */
int pw_parts_split(pw_parts *parts, pw_parts *to);

/* Look at pages until `budget` or a few more were looked at, nothing is left, or `flaws` has not room for another
** PW_PAGE_FLAWS. The order of visits and flaws is described in pagewarden/pages/walk.py. `room` is at least PW_PAGE_FLAWS.
** After another status than PW_OK the walk is of no more use. */
pw_status pw_walk_step(const pw_walk *walk, const pw_source *source, pw_parts *parts, uint8_t *work, size_t work_size,
                       uint32_t budget, pw_flaw *flaws, uint32_t room, pw_seen *seen, pw_fault *fault);

/* Write runs of pages from page `*from` on that no walk looked at, as pairs (first, count), at most `room` of them; the
** number of pairs goes to `*used`, and `*from` becomes where to go on, 0 at the end. */
void pw_unused(const pw_walk *walk, uint32_t *from, uint32_t *runs, uint32_t room, uint32_t *used);

/* What stands in a WAL behind the end of its chain; all numbers but the first group are filled in by pw_wal_behind. */
typedef struct {
  /* where to look, and for what: set by the caller */
  uint32_t page_size;
  int32_t big_endian;
  uint8_t salts[8];
  uint32_t at;          /* the frame before the next one that is looked at, 0 for the header */
  uint32_t checksum[2]; /* the checksum that frame `at` stores */
  uint32_t other[2];    /* what it would be if what it stores is what broke; else the same again */
  /* what was seen */
  int32_t broken_commit; /* whether frame `at` breaks the chain and bears the mark of a commit */
  uint32_t stranded;     /* frames with the salts that continue the checksum of the frame before */
  uint32_t first;        /* the first of them, 0 where there is none */
  uint32_t commits;      /* commits that they prove: their own, and that of a broken frame which one of them continues */
  uint32_t last_commit;  /* the last frame among those that bears the mark of a commit, 0 where there is none */
  uint32_t older;        /* frames with other salts, all zeros aside */
  uint32_t bare;         /* frames right behind the chain that name a page, and whose salts and checksum are zeros */
  uint32_t bare_commit;  /* the last of them that bears the mark of a commit, 0 where there is none */
  uint32_t pending;      /* such marks in the frames without salts that end at frame `at` */
  uint32_t pending_last; /* the last of those */
  int32_t apart;         /* whether a frame with salts was looked at */
  int32_t done;          /* whether the end of the file was reached */
} pw_behind;

/* Look at up to `most` more frames. `buffer` holds at least one page. */
pw_status pw_wal_behind(int wal, pw_behind *state, uint32_t most, uint8_t *buffer, size_t buffer_size,
                        pw_fault *fault);

/* cffi: end */

#endif

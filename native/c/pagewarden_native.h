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

#define PW_ABI 1

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
  int32_t done; /* whether the chain has ended */
  int32_t end;  /* a pw_wal_end, once done */
} pw_wal;

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

/* Sort `count` entries, given in the order of their frames, by pgno, and keep the last frame of each. `scratch` is as
** large as `entries`. The number of entries that remain goes to `*used`. */
void pw_wal_map(uint8_t *entries, uint8_t *scratch, uint32_t count, uint32_t *used);

/* Write a byte for each page to `holds`: 1 where the checksum that cksumvfs keeps in the last 8 bytes of the page holds,
** else 0. `buffer` holds at least one page, `holds` at least `count` bytes. */
pw_status pw_reserved_sums(const pw_source *source, uint32_t first, uint32_t count, uint8_t *buffer,
                           size_t buffer_size, uint8_t *holds, size_t holds_size, pw_fault *fault);

/* cffi: end */

#endif

/* Reading the pages of one commit: from the WAL where the map names a frame, else from the file, else zeros. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include "walk.h"

#ifdef PW_PREAD /* the tests' own, which fails on demand */
ssize_t PW_PREAD(int file, void *to, size_t size, off_t offset);
#else
#define PW_PREAD pread
#endif

_Static_assert(sizeof(off_t) == 8, "offsets of files need 64 bits");

int64_t pw_pread(int file, uint8_t *to, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = PW_PREAD(file, to + done, size - done, (off_t)(offset + done));
    if (n > 0) {
      done += (size_t)n;
    } else if (n == 0) {
      break;
    } else if (errno != EINTR) {
      return -1;
    }
  }
  return (int64_t)done;
}

/* Read exactly `size` bytes. `pgno` and `page_size` let a short read name its page. */
static pw_status read_whole(int file, uint8_t *to, size_t size, uint64_t offset, uint32_t pgno, uint32_t page_size,
                            pw_fault *fault) {
  int64_t n = pw_pread(file, to, size, offset);
  if (n < 0) {
    return pw_fail(fault, PW_IO, errno, pgno, offset);
  }
  if ((uint64_t)n < (uint64_t)size) {
    return pw_fail(fault, PW_SHORT_READ, 0, pgno + (uint32_t)((uint64_t)n / page_size), offset + (uint64_t)n);
  }
  return PW_OK;
}

static uint32_t map_pgno(const pw_source *source, uint32_t index) {
  return pw_get_le32(source->frames + (size_t)index * 8);
}

/* The first entry of the map whose pgno is at least `pgno`. An unsorted map gives a wrong entry, never a wild one. */
static uint32_t map_find(const pw_source *source, uint32_t pgno) {
  uint32_t low = 0, high = source->frame_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (map_pgno(source, middle) < pgno) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static int source_valid(const pw_source *source, uint32_t first, uint32_t count) {
  return pw_page_size_valid(source->page_size) && first >= 1 && first <= source->pages &&
         count <= source->pages - first + 1 && source->pages < UINT32_MAX &&
         (source->frame_count == 0 || source->wal >= 0);
}

/* Read bytes of the database file as far as it is believed to go; zeros follow. */
static pw_status read_bytes(const pw_source *source, uint64_t offset, uint64_t size, uint32_t pgno, uint8_t *to,
                            pw_fault *fault) {
  uint64_t there = source->file_size <= offset ? 0 : source->file_size - offset;
  if (there > size) {
    there = size;
  }
  memset(to + there, 0, (size_t)(size - there));
  return read_whole(source->database, to, (size_t)there, offset, pgno, source->page_size, fault);
}

/* Read `count` pages that no frame holds and of which none is the lock-byte page. */
static pw_status read_file(const pw_source *source, uint32_t first, uint32_t count, uint8_t *to, pw_fault *fault) {
  return read_bytes(source, (uint64_t)(first - 1) * source->page_size, (uint64_t)count * source->page_size, first, to,
                    fault);
}

/* Where the page of a frame, which is at least 1, begins in the WAL. */
static uint64_t frame_offset(const pw_source *source, uint32_t frame) {
  return 32 + (uint64_t)(frame - 1) * (24 + (uint64_t)source->page_size) + 24;
}

static pw_status read_frame(const pw_source *source, uint32_t pgno, uint32_t frame, uint8_t *to, pw_fault *fault) {
  if (frame == 0) {
    return pw_fail(fault, PW_ARGUMENT, 0, pgno, 0);
  }
  return read_whole(source->wal, to, source->page_size, frame_offset(source, frame), pgno, source->page_size, fault);
}

pw_status pw_read_part(const pw_source *source, uint32_t pgno, uint32_t at, uint32_t size, uint8_t *to,
                       pw_fault *fault) {
  *fault = (pw_fault){0};
  if (!source_valid(source, pgno, 1) || at > source->page_size || size > source->page_size - at) {
    return pw_fail(fault, PW_ARGUMENT, 0, pgno, 0);
  }
  if (pgno == pw_lock_page(source->page_size)) {
    memset(to, 0, size);
    return PW_OK;
  }
  const uint32_t entry = map_find(source, pgno);
  if (entry < source->frame_count && map_pgno(source, entry) == pgno) {
    const uint32_t frame = pw_get_le32(source->frames + (size_t)entry * 8 + 4);
    if (frame == 0) {
      return pw_fail(fault, PW_ARGUMENT, 0, pgno, 0);
    }
    return read_whole(source->wal, to, size, frame_offset(source, frame) + at, pgno, source->page_size, fault);
  }
  return read_bytes(source, (uint64_t)(pgno - 1) * source->page_size + at, size, pgno, to, fault);
}

pw_status pw_read(const pw_source *source, uint32_t first, uint32_t count, uint8_t *to, size_t to_size,
                  pw_fault *fault) {
  *fault = (pw_fault){0};
  if (count == 0) {
    return PW_OK;
  }
  if (!source_valid(source, first, count) || !pw_holds(to_size, count, source->page_size)) {
    return pw_fail(fault, PW_ARGUMENT, 0, first, 0);
  }
  const uint32_t lock = pw_lock_page(source->page_size), size = source->page_size;
  const uint32_t past = first + count; /* source_valid keeps it within 32 bits */
  uint32_t entry = map_find(source, first);
  uint32_t pgno = first;
  while (pgno < past) {
    uint8_t *at = to + (size_t)(pgno - first) * size;
    while (entry < source->frame_count && map_pgno(source, entry) < pgno) {
      entry++;
    }
    if (pgno == lock) {
      memset(at, 0, size);
      pgno++;
      continue;
    }
    if (entry < source->frame_count && map_pgno(source, entry) == pgno) {
      pw_status status = read_frame(source, pgno, pw_get_le32(source->frames + (size_t)entry * 8 + 4), at, fault);
      if (status != PW_OK) {
        return status;
      }
      pgno++;
      continue;
    }
    uint32_t stop = past; /* a run from the file goes on to the next mapped page or the lock-byte page */
    if (entry < source->frame_count && map_pgno(source, entry) < stop) {
      stop = map_pgno(source, entry);
    }
    if (pgno < lock && lock < stop) {
      stop = lock;
    }
    pw_status status = read_file(source, pgno, stop - pgno, at, fault);
    if (status != PW_OK) {
      return status;
    }
    pgno = stop;
  }
  return PW_OK;
}

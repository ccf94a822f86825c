/* Page sums: XXH64 of a page seeded with its pgno, so that a page in the wrong place never matches. */
#include "bytes.h"

static void hash_page(const uint8_t *page, uint32_t page_size, uint32_t pgno, uint8_t *sum) {
  pw_put_le64(sum, pgno == pw_lock_page(page_size) ? 0 : pw_xxh64(page, page_size, pgno));
}

static void hash_pages(const uint8_t *pages, uint32_t page_size, uint32_t first, uint32_t count, uint8_t *sums) {
  for (uint32_t i = 0; i < count; i++) {
    hash_page(pages + (size_t)i * page_size, page_size, first + i, sums + (size_t)i * 8);
  }
}

pw_status pw_buffer_sums(const uint8_t *pages, size_t pages_size, uint32_t page_size, uint32_t first, uint32_t count,
                         uint8_t *sums, size_t sums_size, pw_fault *fault) {
  *fault = (pw_fault){0};
  if (!pw_page_size_valid(page_size) || first == 0 || (uint64_t)first + count > UINT32_MAX ||
      !pw_holds(pages_size, count, page_size) || !pw_holds(sums_size, count, 8)) {
    return pw_fail(fault, PW_ARGUMENT, 0, first, 0);
  }
  hash_pages(pages, page_size, first, count, sums);
  return PW_OK;
}

pw_status pw_listed_sums(const uint8_t *pages, size_t pages_size, uint32_t page_size, const uint8_t *numbers,
                         size_t numbers_size, uint32_t count, uint8_t *sums, size_t sums_size, pw_fault *fault) {
  *fault = (pw_fault){0};
  if (!pw_page_size_valid(page_size) || !pw_holds(pages_size, count, page_size) ||
      !pw_holds(numbers_size, count, 4) || !pw_holds(sums_size, count, 8)) {
    return pw_fail(fault, PW_ARGUMENT, 0, 0, 0);
  }
  for (uint32_t i = 0; i < count; i++) {
    uint32_t pgno = pw_get_le32(numbers + (size_t)i * 4);
    if (pgno == 0 || pgno == UINT32_MAX) {
      return pw_fail(fault, PW_ARGUMENT, 0, pgno, 0);
    }
    hash_page(pages + (size_t)i * page_size, page_size, pgno, sums + (size_t)i * 8);
  }
  return PW_OK;
}

pw_status pw_sums(const pw_source *source, uint32_t first, uint32_t count, uint8_t *buffer, size_t buffer_size,
                  uint8_t *sums, size_t sums_size, pw_fault *fault) {
  *fault = (pw_fault){0};
  if (!pw_page_size_valid(source->page_size) || buffer_size < source->page_size || !pw_holds(sums_size, count, 8)) {
    return pw_fail(fault, PW_ARGUMENT, 0, first, 0);
  }
  const uint64_t fits = (uint64_t)buffer_size / source->page_size;
  uint32_t done = 0;
  while (done < count) {
    uint32_t some = count - done < fits ? count - done : (uint32_t)fits;
    /* an overflow of first + done is refused by pw_read: it would be past the last page */
    if (first > UINT32_MAX - done) {
      return pw_fail(fault, PW_ARGUMENT, 0, first, 0);
    }
    pw_status status = pw_read(source, first + done, some, buffer, buffer_size, fault);
    if (status != PW_OK) {
      return status;
    }
    hash_pages(buffer, source->page_size, first + done, some, sums + (size_t)done * 8);
    done += some;
  }
  return PW_OK;
}

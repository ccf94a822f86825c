/* Copying out: read pages, take their sums, compress them into one independent zstd frame. */
#include "bytes.h"

pw_status pw_compress(const pw_source *source, uint32_t first, uint32_t count, const pw_zstd *zstd, void *context,
                      int level, uint8_t *pages, size_t pages_size, uint8_t *sums, size_t sums_size, uint8_t *to,
                      size_t to_size, size_t *used, pw_fault *fault) {
  *used = 0;
  if (count == 0) {
    return pw_fail(fault, PW_ARGUMENT, 0, first, 0); /* a frame of no pages has no place in a page set */
  }
  pw_status status = pw_read(source, first, count, pages, pages_size, fault);
  if (status == PW_OK) {
    status = pw_buffer_sums(pages, pages_size, source->page_size, first, count, sums, sums_size, fault);
  }
  if (status != PW_OK) {
    return status;
  }
  size_t size = (size_t)count * source->page_size; /* pw_read has found that the buffer holds it */
  size_t n = zstd->compress(context, to, to_size, pages, size, level);
  if (zstd->is_error(n)) {
    return pw_fail(fault, PW_COMPRESS, 0, first, (uint64_t)n);
  }
  *used = n;
  return PW_OK;
}

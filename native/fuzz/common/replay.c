/* A main for compilers without a fuzzer: gives each file that is named to the target once. */
#include "memory.h"

int main(int count, char **names) {
  for (int i = 1; i < count; i++) {
    FILE *file = fopen(names[i], "rb");
    HOLDS(file != NULL);
    static uint8_t data[1 << 20];
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    uint8_t *copy = own(data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
  }
  return 0;
}

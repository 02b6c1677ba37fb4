/* The buffer for entries while the interpreter starts.

   Normally an entry is written with one system call, so that neither a kill nor a fork
   can lose or double it.  While the interpreter starts, before it runs any code of the
   program, it announces about 240 functions.  With that many system calls an empty
   program took 5 % longer to start.  So during that time a block of 16 KiB buffers the
   entries.  The block is written when it is full and when the interpreter is ready.

   A block is written whole or not at all.  If that fails, its entries are written one
   by one, until one fails.  Then profiling is switched off.

   The entries in a block are for one generation of the file.  If the file has been
   emptied since, they are dropped, because the functions are announced again in the new
   generation.  */

#include "Python.h"
#include "pycore_perf_buffer.h"
#include <unistd.h>

struct _PyPerfBufferBlock {
    _PyPerfGeneration generation;   // of the file that the entries are for
    size_t length;                  // bytes
    char bytes[16 * 1024];
    size_t count;                   // entries
    uint16_t lengths[1024];         // of the entries
};

/* Return whether the block has entries for the file's current generation. */
static bool
block_has_entries(const struct _PyPerfBufferBlock *block,
                  const struct _PyPerfFile *file)
{
    return block->length > 0 && block->generation == file->generation;
}

/* Write the block and empty it.  Returns as _PyPerfFile_Append() does. */
static int
block_flush(struct _PyPerfBufferBlock *block, struct _PyPerfFile *file,
            struct _PyPerfError *error)
{
    int result = _PyPerfFile_APPENDED;
    if (block_has_entries(block, file) && file->pid == getpid()) {
        result = _PyPerfFile_Append(file, block->bytes, block->length, error);
        // If there is no room for all entries, write as many as there is room for.
        const char *entry = block->bytes;
        for (size_t i = 0; result < 0 && i < block->count; i++) {
            if (_PyPerfFile_Append(file, entry, block->lengths[i], error) < 0) {
                break;
            }
            entry += block->lengths[i];
        }
        if (result < 0) {
            file->generation = _PyPerfGeneration_Next();    // some entries are lost
        }
    }
    block->length = block->count = 0;
    return result;
}

void
_PyPerfBuffer_Start(struct _PyPerfBuffer *buffer)
{
    if (buffer->block == NULL) {
        buffer->block = PyMem_RawMalloc(sizeof(*buffer->block));
        if (buffer->block != NULL) {
            buffer->block->length = buffer->block->count = 0;
        }
    }
}

void
_PyPerfBuffer_Drop(struct _PyPerfBuffer *buffer)
{
    // Clear the pointer first: another thread may fork in between, without our hooks.
    struct _PyPerfBufferBlock *block = buffer->block;
    buffer->block = NULL;
    PyMem_RawFree(block);
}

int
_PyPerfBuffer_Stop(struct _PyPerfBuffer *buffer, struct _PyPerfFile *file,
                   struct _PyPerfError *error)
{
    int result = _PyPerfFile_APPENDED;
    if (buffer->block != NULL) {
        result = block_flush(buffer->block, file, error);
        _PyPerfBuffer_Drop(buffer);
    }
    return result;
}

int
_PyPerfBuffer_Append(struct _PyPerfBuffer *buffer, struct _PyPerfFile *file,
                     const void *bytes, size_t length, struct _PyPerfError *error)
{
    struct _PyPerfBufferBlock *block = buffer->block;
    if (block == NULL) {
        return _PyPerfFile_Append(file, bytes, length, error);
    }
    if (length > sizeof(block->bytes) - block->length
            || block->count == Py_ARRAY_LENGTH(block->lengths)
            || !block_has_entries(block, file)) {
        int result = block_flush(block, file, error);
        if (result != _PyPerfFile_APPENDED) {
            return result;
        }
    }
    if (length > sizeof(block->bytes)) {
        return _PyPerfFile_Append(file, bytes, length, error);
    }
    memcpy(block->bytes + block->length, bytes, length);
    block->generation = file->generation;
    block->length += length;
    block->lengths[block->count++] = (uint16_t)length;
    return _PyPerfFile_APPENDED;
}

bool
_PyPerfBuffer_IsEmpty(const struct _PyPerfBuffer *buffer,
                      const struct _PyPerfFile *file)
{
    return file->size == 0 && (buffer->block == NULL
                               || !block_has_entries(buffer->block, file));
}

/* Slots of code objects that have died, by the names of the functions.

   A perf map has no times, so an address that it names never gets a different name.
   Without more, each function that a program makes takes a slot and a line of the map
   for ever.  But programs execute the same source again and again: templates,
   namedtuples, plug-ins.  The functions that come from it have the same names.  What
   the map says of the address of the old one is true of the new one, too.

       name and file of the function --> retired --> slot --> slot --> ...

   The table holds the last KEYS_MAX names, and only short ones, so that it cannot grow
   without end in a program whose functions all have different names. */

#include "Python.h"
#include "pycore_hashtable.h"
#include "pycore_perf_base.h"       // _PyPerfBase_IsReady()
#include "pycore_perf_retired.h"

#define KEYS_MAX ((size_t)16 * 1024)

/* Bytes of a name and a file.  This is about ten times what is usual. */
#define KEY_SIZE_MAX ((size_t)1024)

/* A string, as the interpreter stores its characters. */
struct characters {
    const void *data;
    size_t size;                    // bytes
    int kind;                       // bytes of a character
};

struct key {
    struct characters qualname;
    struct characters filename;
};

/* What the table refers to. */
struct retired {
    struct key key;                 // its pointers point to `text`
    struct _PyPerfSlot *slots;      // linked by next_free; NULL: all are in use
    struct retired *newer;
    char text[];
};

static _Py_hashtable_t *table;      // the keys are struct key, NULL: none yet
static struct retired *oldest, *newest;


// --- Keys ------------------------------------------------------------------

static Py_uhash_t
characters_hash(const struct characters *characters)
{
    return (Py_uhash_t)_Py_HashBytes(characters->data, (Py_ssize_t)characters->size);
}

static bool
characters_are_equal(const struct characters *a, const struct characters *b)
{
    return a->size == b->size && a->kind == b->kind
           && memcmp(a->data, b->data, a->size) == 0;
}

/* Fill in *characters, which borrows those of `string`.  Returns false if they cannot
   be read. */
static bool
characters_borrow(struct characters *characters, PyObject *string)
{
    if (!_PyPerfBase_IsReady(string)) {
        return false;
    }
    characters->data = PyUnicode_DATA(string);
    characters->kind = (int)PyUnicode_KIND(string);
    characters->size = (size_t)PyUnicode_GET_LENGTH(string) * (size_t)characters->kind;
    return true;
}

/* Copy the characters to `place`.  Returns the end of the copy. */
static char *
characters_copy(struct characters *characters, char *place)
{
    memcpy(place, characters->data, characters->size);
    characters->data = place;
    return place + characters->size;
}

static Py_uhash_t
key_hash(const void *data)
{
    const struct key *key = data;
    return characters_hash(&key->qualname) ^ characters_hash(&key->filename);
}

static int
keys_are_equal(const void *one, const void *other)
{
    const struct key *a = one, *b = other;
    return characters_are_equal(&a->qualname, &b->qualname)
           && characters_are_equal(&a->filename, &b->filename);
}

/* Fill in *key, which borrows the characters of the names of `code`.  Returns false if
   they are too long. */
static bool
key_from_code(struct key *key, const PyCodeObject *code)
{
    return characters_borrow(&key->qualname, code->co_qualname)
           && characters_borrow(&key->filename, code->co_filename)
           && key->qualname.size <= KEY_SIZE_MAX
           && key->filename.size <= KEY_SIZE_MAX - key->qualname.size;
}


// --- The table -------------------------------------------------------------

static struct retired *
table_get(const struct key *key)
{
    return table != NULL ? _Py_hashtable_get(table, key) : NULL;
}

/* Forget the oldest key.  Its slots are not used again. */
static void
table_forget_oldest(void)
{
    struct retired *retired = oldest;
    oldest = retired->newer;
    if (oldest == NULL) {
        newest = NULL;
    }
    _Py_hashtable_steal(table, &retired->key);
    PyMem_RawFree(retired);
}

/* Add a key that the table does not have.  Returns NULL if there is no memory. */
static struct retired *
table_add(const struct key *key)
{
    if (table == NULL) {
        _Py_hashtable_allocator_t allocator = {PyMem_RawMalloc, PyMem_RawFree};
        table = _Py_hashtable_new_full(key_hash, keys_are_equal, NULL, NULL,
                                       &allocator);
        if (table == NULL) {
            return NULL;
        }
    }
    if (table->nentries == KEYS_MAX) {
        table_forget_oldest();
    }
    struct retired *retired = PyMem_RawCalloc(
        1, sizeof(*retired) + key->qualname.size + key->filename.size);
    if (retired == NULL) {
        return NULL;
    }
    retired->key = *key;
    characters_copy(&retired->key.filename,
                    characters_copy(&retired->key.qualname, retired->text));
    if (_Py_hashtable_set(table, &retired->key, retired) < 0) {
        PyMem_RawFree(retired);
        return NULL;
    }
    *(newest != NULL ? &newest->newer : &oldest) = retired;
    newest = retired;
    return retired;
}


// --- What others use -------------------------------------------------------

void
_PyPerfRetired_Keep(struct _PyPerfSlot *slot, const PyCodeObject *code)
{
    struct key key;
    if (!key_from_code(&key, code)) {
        return;
    }
    struct retired *retired = table_get(&key);
    if (retired == NULL) {
        retired = table_add(&key);
    }
    if (retired != NULL) {
        slot->next_free = retired->slots;
        retired->slots = slot;
    }
}

struct _PyPerfSlot *
_PyPerfRetired_Take(const PyCodeObject *code)
{
    struct key key;
    if (table == NULL || !key_from_code(&key, code)) {
        return NULL;
    }
    struct retired *retired = table_get(&key);
    while (retired != NULL && retired->slots != NULL) {
        struct _PyPerfSlot *slot = retired->slots;
        retired->slots = slot->next_free;
        if (slot->number > _PyPerf_Pool.last_inherited) {
            return slot;
        }
    }
    return NULL;
}

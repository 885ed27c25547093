/* What a subject exports: from a shared object to everybody, in a static program to that program. */
#ifndef RSM_SUBJECT_VISIBLE_H
#define RSM_SUBJECT_VISIBLE_H

#ifdef RSM_STATIC
#define RSM_VISIBLE __attribute__((visibility("hidden")))
#else
#define RSM_VISIBLE __attribute__((visibility("default")))
#endif

#endif

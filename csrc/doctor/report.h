/* Writes what the programs of `doctor` find: one line a fact, "doctor <topic> <name> <value>", written at once, so that
 * what was found before a program is killed is not lost. */
#ifndef RSM_DOCTOR_REPORT_H
#define RSM_DOCTOR_REPORT_H

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((format(printf, 3, 4))) static inline void report(const char *topic, const char *name, const char *format,
                                                                ...)
{
    char line[256];
    va_list values;
    int length = snprintf(line, sizeof(line), "doctor %s %s ", topic, name);
    va_start(values, format);
    length += vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, values);
    va_end(values);
    if (length > (int)sizeof(line) - 2)
        length = (int)sizeof(line) - 2;
    line[length] = '\n';
    if (write(1, line, (size_t)length + 1) < 0)
        _exit(2);
}

#endif

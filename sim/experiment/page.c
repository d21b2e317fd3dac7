/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/experiment/page.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"

struct sl_page {
    FILE *text, *html;
    char *bytes; /* of html */
    size_t n_bytes;
    const char *dir;
    struct sl_err failure; /* the first */
    /* the open table: header and rows, all cells behind one another */
    char **cells;
    size_t n_cells, cap_cells, columns;
};

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<style>\n"
    "body{font-family:sans-serif;color:#222;max-width:60em;margin:2em auto;padding:0 "
    "1em}\n"
    "table{border-collapse:collapse;margin:1em 0}\n"
    "th,td{border-bottom:1px solid #ccc;padding:.25em .8em;text-align:right}\n"
    "th:first-child,td:first-child{text-align:left}\n"
    "th{border-bottom:2px solid #666}\n"
    "svg{max-width:100%;height:auto;margin:1em 0}\n"
    "</style>\n";

static void put_html(FILE *to, const char *s)
{
    for (; *s != '\0'; s++)
        if (*s == '<')
            fputs("&lt;", to);
        else if (*s == '>')
            fputs("&gt;", to);
        else if (*s == '&')
            fputs("&amp;", to);
        else
            fputc(*s, to);
}

static void keep_failure(struct sl_page *p, enum sl_code rc, const struct sl_err *err)
{
    if (rc != SL_OK && p->failure.code == SL_OK)
        p->failure = *err;
}

static void no_memory(struct sl_page *p)
{
    struct sl_err err;
    keep_failure(p, sl_err_set(&err, SL_E_NOMEM, "report of the experiment"), &err);
}

enum sl_code sl_page_new(FILE *text, const char *dir, const char *title,
                         struct sl_page **ret, struct sl_err *err)
{
    struct sl_page *p = sl_calloc(1, sizeof(*p));
    if (p == NULL)
        return sl_err_set(err, SL_E_NOMEM, "report of the experiment");
    p->text = text;
    p->dir = dir;
    p->html = open_memstream(&p->bytes, &p->n_bytes);
    if (p->html == NULL) {
        free(p);
        return sl_err_set(err, SL_E_NOMEM, "report of the experiment");
    }
    fputs(head, p->html);
    fputs("<title>", p->html);
    put_html(p->html, title);
    fputs("</title></head><body>\n<h1>", p->html);
    put_html(p->html, title);
    fputs("</h1>\n", p->html);
    fprintf(p->text, "\n%s\n", title);
    *ret = p;
    return SL_OK;
}

static void forget_cells(struct sl_page *p)
{
    for (size_t i = 0; i < p->n_cells; i++)
        free(p->cells[i]);
    p->n_cells = 0;
}

void sl_page_free(struct sl_page *p)
{
    if (p == NULL)
        return;
    forget_cells(p);
    free(p->cells);
    if (p->html != NULL)
        fclose(p->html);
    free(p->bytes);
    free(p);
}

/* --- words ------------------------------------------------------------------------ */

static void put_element(struct sl_page *p, const char *tag, const char *fmt, va_list args)
{
    char *s;
    if (vasprintf(&s, fmt, args) < 0) {
        no_memory(p);
        return;
    }
    fprintf(p->html, "<%s>", tag);
    put_html(p->html, s);
    fprintf(p->html, "</%s>\n", tag);
    fprintf(p->text, "\n%s\n", s);
    free(s);
}

void sl_page_heading(struct sl_page *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put_element(p, "h2", fmt, args);
    va_end(args);
}

void sl_page_paragraph(struct sl_page *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put_element(p, "p", fmt, args);
    va_end(args);
}

/* --- tables ----------------------------------------------------------------------- */

static void add_cell(struct sl_page *p, char *s)
{
    if (s != NULL && p->n_cells == p->cap_cells) {
        size_t cap = p->cap_cells == 0 ? 128 : 2 * p->cap_cells;
        char **cells = realloc(p->cells, cap * sizeof(*cells));
        if (cells == NULL) {
            free(s);
            s = NULL;
        } else {
            p->cells = cells;
            p->cap_cells = cap;
        }
    }
    if (s == NULL)
        no_memory(p);
    else
        p->cells[p->n_cells++] = s;
}

void sl_page_table_begin(struct sl_page *p, const char *const *columns)
{
    forget_cells(p);
    for (p->columns = 0; columns[p->columns] != NULL; p->columns++)
        add_cell(p, strdup(columns[p->columns]));
}

void sl_page_cell(struct sl_page *p, const char *fmt, ...)
{
    va_list args;
    char *s;
    va_start(args, fmt);
    int n = vasprintf(&s, fmt, args);
    va_end(args);
    add_cell(p, n < 0 ? NULL : s);
}

static void print_row(const struct sl_page *p, size_t row, const size_t *width)
{
    for (size_t c = 0; c < p->columns; c++)
        fprintf(p->text, c == 0 ? "%-*s" : "  %*s", (int)width[c],
                p->cells[row * p->columns + c]);
    fputc('\n', p->text);
}

static void print_text(const struct sl_page *p, size_t rows)
{
    size_t width[SL_PAGE_COLUMNS] = {0}, total = 0;
    for (size_t i = 0; i < rows * p->columns; i++) {
        size_t n = strlen(p->cells[i]), c = i % p->columns;
        width[c] = n > width[c] ? n : width[c];
    }
    for (size_t c = 0; c < p->columns; c++)
        total += width[c] + (c == 0 ? 0 : 2);
    fputc('\n', p->text);
    for (size_t r = 0; r < rows; r++) {
        print_row(p, r, width);
        for (size_t i = 0; r == 0 && i < total; i++)
            fputc('-', p->text);
        if (r == 0)
            fputc('\n', p->text);
    }
}

static void print_html(const struct sl_page *p, size_t rows)
{
    fputs("<table>\n", p->html);
    for (size_t r = 0; r < rows; r++) {
        const char *tag = r == 0 ? "th" : "td";
        fputs("<tr>", p->html);
        for (size_t c = 0; c < p->columns; c++) {
            fprintf(p->html, "<%s>", tag);
            put_html(p->html, p->cells[r * p->columns + c]);
            fprintf(p->html, "</%s>", tag);
        }
        fputs("</tr>\n", p->html);
    }
    fputs("</table>\n", p->html);
}

void sl_page_table_end(struct sl_page *p)
{
    if (p->columns == 0 || p->columns > SL_PAGE_COLUMNS)
        return;
    while (p->n_cells % p->columns != 0 && p->failure.code == SL_OK)
        sl_page_cell(p, "%s", "");
    if (p->failure.code == SL_OK) {
        print_text(p, p->n_cells / p->columns);
        print_html(p, p->n_cells / p->columns);
    }
    forget_cells(p);
}

/* --- plots ------------------------------------------------------------------------ */

static enum sl_code draw(const struct sl_plot_lines *plot, char **ret, size_t *ret_n,
                         struct sl_err *err)
{
    FILE *f = open_memstream(ret, ret_n);
    if (f == NULL)
        return sl_err_set(err, SL_E_NOMEM, "plot");
    enum sl_code rc = sl_plot_svg_lines(f, plot, err);
    if (fclose(f) != 0 && rc == SL_OK)
        rc = sl_err_set(err, SL_E_NOMEM, "plot");
    if (rc != SL_OK)
        free(*ret);
    return rc;
}

void sl_page_plot(struct sl_page *p, const char *name, const struct sl_plot_lines *plot)
{
    struct sl_err err;
    char *svg, path[4096];
    size_t n;
    enum sl_code rc = draw(plot, &svg, &n, &err);
    if (rc == SL_OK) {
        fwrite(svg, 1, n, p->html);
        if (p->dir != NULL) {
            snprintf(path, sizeof(path), "%s/%s.svg", p->dir, name);
            rc = sl_file_write_atomic(path, svg, n, false, &err);
        }
        free(svg);
    }
    keep_failure(p, rc, &err);
}

enum sl_code sl_page_finish(struct sl_page *p, struct sl_err *err)
{
    char path[4096];
    fputs("</body></html>\n", p->html);
    if (fflush(p->html) != 0 || ferror(p->html))
        no_memory(p);
    if (p->failure.code != SL_OK) {
        *err = p->failure;
        return err->code;
    }
    if (p->dir == NULL)
        return SL_OK;
    snprintf(path, sizeof(path), "%s/report.html", p->dir);
    return sl_file_write_atomic(path, p->bytes, p->n_bytes, false, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "common/plot_term.h"

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WIDTH_MIN 24
#define HEIGHT_MIN 3
#define DOTS_X 2 /* of a braille character */
#define DOTS_Y 4
#define Y_LABEL_MAX 12 /* columns */

static int clamp(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

bool sl_plot_term_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *v = getenv(names[i]);
        if (v != NULL && *v != '\0')
            return strcasestr(v, "utf-8") != NULL || strcasestr(v, "utf8") != NULL;
    }
    return false;
}

/* --- curve ------------------------------------------------------------------------ */

/* Bits of the eight dots of a braille character U+2800 + bits, [line][column]. */
static const uint8_t dot_bit[DOTS_Y][DOTS_X] = {{1, 8}, {2, 16}, {4, 32}, {64, 128}};

struct canvas {
    bool utf8;
    int cols, lines, dots_x, dots_y; /* dots_* of the whole canvas */
    struct sl_plot_axis x, y;
    uint8_t cell[SL_PLOT_TERM_HEIGHT_MAX][SL_PLOT_TERM_WIDTH_MAX]; /* dot_bit ORed */
};

static void set_dot(struct canvas *c, int x, int y)
{
    if (c->utf8)
        c->cell[y / DOTS_Y][x / DOTS_X] |= dot_bit[y % DOTS_Y][x % DOTS_X];
    else
        c->cell[y][x] = 1;
}

/* A straight run of dots, one for each step along its longer side. */
static void set_line(struct canvas *c, int x0, int y0, int x1, int y1)
{
    int dx = abs(x1 - x0), dy = abs(y1 - y0), n = dx > dy ? dx : dy;
    for (int i = 0; i <= n; i++) {
        double part = n == 0 ? 0 : (double)i / n;
        set_dot(c, x0 + (int)lround(part * (x1 - x0)),
                y0 + (int)lround(part * (y1 - y0)));
    }
}

static int place_x(const struct canvas *c, double v)
{
    return (int)lround(sl_plot_axis_place(&c->x, v) * (c->dots_x - 1));
}

static int place_y(const struct canvas *c, double v)
{
    return (int)lround((1 - sl_plot_axis_place(&c->y, v)) * (c->dots_y - 1));
}

static void draw_points(struct canvas *c, const double *x, const double *y, size_t n)
{
    int x0 = 0, y0 = 0;
    bool joined = false;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || !isfinite(y[i]))
            continue;
        int x1 = place_x(c, x[i]), y1 = place_y(c, y[i]);
        set_line(c, joined ? x0 : x1, joined ? y0 : y1, x1, y1);
        x0 = x1;
        y0 = y1;
        joined = true;
    }
}

/* The y axis' label on this line, "" on lines without a tick. */
static void label_of_line(const struct canvas *c, int line, char ret[SL_PLOT_LABEL])
{
    ret[0] = '\0';
    for (int64_t k = c->y.first; k <= c->y.last; k++) {
        int y = place_y(c, sl_plot_axis_tick(&c->y, k));
        if (y / (c->dots_y / c->lines) == line)
            sl_plot_axis_label(&c->y, k, ret);
    }
}

static int widest_label(const struct canvas *c)
{
    int widest = 1;
    char label[SL_PLOT_LABEL];
    for (int64_t k = c->y.first; k <= c->y.last; k++) {
        sl_plot_axis_label(&c->y, k, label);
        widest = (int)strlen(label) > widest ? (int)strlen(label) : widest;
    }
    return widest > Y_LABEL_MAX ? Y_LABEL_MAX : widest;
}

static void put_braille(FILE *to, uint8_t bits)
{
    const char text[] = {(char)0xe2, (char)(0xa0 | bits >> 6), (char)(0x80 | (bits & 63)),
                         '\0'};
    fputs(bits == 0 ? " " : text, to);
}

static void print_lines(const struct canvas *c, FILE *to, int gutter)
{
    char label[SL_PLOT_LABEL];
    for (int line = 0; line < c->lines; line++) {
        label_of_line(c, line, label);
        const char *bar =
            label[0] != '\0' ? (c->utf8 ? "┤" : "+") : (c->utf8 ? "│" : "|");
        fprintf(to, "%*.*s %s", gutter, gutter, label, bar);
        int end = c->cols;
        while (end > 0 && c->cell[line][end - 1] == 0)
            end--;
        for (int col = 0; col < end; col++)
            if (c->utf8)
                put_braille(to, c->cell[line][col]);
            else
                fputc(c->cell[line][col] != 0 ? '*' : ' ', to);
        fputc('\n', to);
    }
}

/* Axis line and labels below. A label is centred under its tick unless it would leave the
 * line or touch the one before. */
static void print_x_axis(const struct canvas *c, FILE *to, int gutter)
{
    char row[SL_PLOT_TERM_WIDTH_MAX + 1], label[SL_PLOT_LABEL];
    bool tick[SL_PLOT_TERM_WIDTH_MAX] = {false};
    int free_from = 0;
    memset(row, ' ', sizeof(row));
    for (int64_t k = c->x.first; k <= c->x.last; k++) {
        int col = place_x(c, sl_plot_axis_tick(&c->x, k)) / (c->dots_x / c->cols);
        sl_plot_axis_label(&c->x, k, label);
        int n = (int)strlen(label), at = clamp(col - n / 2, 0, c->cols - n);
        tick[col] = true;
        if (at < free_from)
            continue;
        memcpy(row + at, label, (size_t)n);
        free_from = at + n + 1;
    }
    fprintf(to, "%*s %s", gutter, "", c->utf8 ? "└" : "+");
    for (int col = 0; col < c->cols; col++)
        fputs(c->utf8 ? (tick[col] ? "┬" : "─") : (tick[col] ? "+" : "-"), to);
    fprintf(to, "\n%*s  %.*s\n", gutter, "", free_from > 0 ? free_from - 1 : 0, row);
}

void sl_plot_term_curve(FILE *to, const char *title, const double *x, const double *y,
                        size_t n, int width, int height)
{
    struct canvas c = {.utf8 = sl_plot_term_utf8()};
    struct sl_plot_range rx = SL_PLOT_RANGE_NONE, ry = SL_PLOT_RANGE_NONE;
    sl_plot_range_add(&rx, x, y, n);
    sl_plot_range_add(&ry, y, x, n);
    fprintf(to, "%s\n", title);
    if (rx.lo > rx.hi) {
        fputs("(no points)\n", to);
        return;
    }
    c.lines = clamp(height, HEIGHT_MIN, SL_PLOT_TERM_HEIGHT_MAX);
    c.y = sl_plot_axis_fit(&ry, clamp(c.lines / 3, 2, 8), true);
    int gutter = widest_label(&c);
    c.cols = clamp(width, WIDTH_MIN, SL_PLOT_TERM_WIDTH_MAX) - gutter - 2;
    c.x = sl_plot_axis_fit(&rx, clamp(c.cols / 10, 2, 12), false);
    c.dots_x = c.cols * (c.utf8 ? DOTS_X : 1);
    c.dots_y = c.lines * (c.utf8 ? DOTS_Y : 1);
    draw_points(&c, x, y, n);
    print_lines(&c, to, gutter);
    print_x_axis(&c, to, gutter);
}

/* --- heat map --------------------------------------------------------------------- */

static const char *const shades_utf8[] = {"·", "░", "▒", "▓", "█"};
static const char *const shades_ascii[] = {".", ":", "+", "#", "@"};

#define N_SHADES 5

/* Nothing at all has a shade of its own; the others share the range up to `most` evenly.
 */
static const char *shade(double v, double most, bool utf8)
{
    int level = v <= 0 ? 0 : clamp((int)ceil(v / most * (N_SHADES - 1)), 1, N_SHADES - 1);
    return utf8 ? shades_utf8[level] : shades_ascii[level];
}

static int digits_of(size_t n)
{
    return snprintf(NULL, 0, "%zu", n);
}

/* Above every few cells the number of its first column, as far as there is room. */
static void print_columns(FILE *to, const struct sl_plot_heat *h,
                          const struct sl_plot_fold *f, int gutter, int cell)
{
    int room = digits_of(h->cols - 1), every = (room + cell) / cell;
    int at = 0, end = (int)f->cols * cell;
    fprintf(to, "%*s ", gutter, h->row_name);
    for (int c = 0; c * cell + room <= end; c += every) {
        fprintf(to, "%*s%-*zu", c * cell - at, "", room, (size_t)c * f->per_col);
        at = c * cell + room;
    }
    fprintf(to, "%*s %s\n", end - at, "", h->col_name);
}

static void print_legend(FILE *to, const struct sl_plot_fold *f, int gutter, bool utf8)
{
    fprintf(to, "%*s ", gutter, "");
    fprintf(to, "%s 0", shade(0, 1, utf8));
    for (int i = 1; i < N_SHADES; i++)
        fprintf(to, "  %s to %.4g", shade(i, N_SHADES - 1, utf8),
                f->most * i / (N_SHADES - 1));
    if (f->per_row > 1 || f->per_col > 1)
        fprintf(to, "  (means of %zu x %zu)", f->per_row, f->per_col);
    fputc('\n', to);
}

void sl_plot_term_heat(FILE *to, const struct sl_plot_heat *h, int width, int height)
{
    bool utf8 = sl_plot_term_utf8();
    fprintf(to, "%s\n", h->title);
    if (h->rows == 0 || h->cols == 0) {
        fputs("(no counts)\n", to);
        return;
    }
    int gutter = digits_of(h->rows - 1), name = (int)strlen(h->row_name);
    gutter = gutter > name ? gutter : name;
    int cols = clamp(width, WIDTH_MIN, SL_PLOT_TERM_WIDTH_MAX) - gutter - 2 -
               (int)strlen(h->col_name);
    cols = cols > 1 ? cols : 1;
    struct sl_plot_fold f = sl_plot_fold_fit(
        h, (size_t)clamp(height, HEIGHT_MIN, SL_PLOT_TERM_HEIGHT_MAX), (size_t)cols);
    int cell = clamp(cols / (int)f.cols, 1, 4);
    print_columns(to, h, &f, gutter, cell);
    for (size_t r = 0; r < f.rows; r++) {
        fprintf(to, "%*zu ", gutter, r * f.per_row);
        for (size_t c = 0; c < f.cols; c++) {
            const char *s = shade(sl_plot_fold_mean(h, &f, r, c), f.most, utf8);
            for (int i = 0; i < cell; i++)
                fputs(s, to);
        }
        fputc('\n', to);
    }
    print_legend(to, &f, gutter, utf8);
}

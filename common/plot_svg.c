/* SPDX-License-Identifier: Apache-2.0 */
#include "common/plot_svg.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* All lengths in px of the viewBox. */
#define WIDTH 720
#define HEIGHT 440
#define LEFT 74 /* of the plot: room for labels and the axis' name */
#define RIGHT 24
#define TOP 48
#define BOTTOM 56
#define FONT 12
/* average width of a character at this size, for the room that text takes */
#define CHAR 6.6
#define LEGEND_ROW 20
#define LEGEND_LINE 26
#define INK "#333333"
#define GRID "#e4e4e4"

/* --- text ------------------------------------------------------------------------- */

/* Bytes of the UTF-8 character at s that XML allows; 0 when there is none. */
static size_t character(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= ' ' && s[0] != 0x7f;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    uint32_t v = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (s[i] & 0x3f);
    }
    bool shortest = v >= (n == 4 ? 0x10000u : n == 3 ? 0x800u : 0x80u);
    bool allowed =
        v <= 0x10ffff && !(v >= 0xd800 && v <= 0xdfff) && v != 0xfffe && v != 0xffff;
    return shortest && allowed && v >= 0xa0 ? n : 0;
}

static void put_text(FILE *to, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s != '\0') {
        size_t n = character(s);
        if (n == 0)
            fputc('?', to);
        else if (*s == '<')
            fputs("&lt;", to);
        else if (*s == '>')
            fputs("&gt;", to);
        else if (*s == '&')
            fputs("&amp;", to);
        else if (*s == '"')
            fputs("&quot;", to);
        else
            fwrite(s, 1, n, to);
        s += n == 0 ? 1 : n;
    }
}

static bool is_empty(const char *text)
{
    return text == NULL || *text == '\0';
}

/* anchor: start, middle or end of the text stands at x; y is its base line. */
static void text_at(FILE *to, double x, double y, const char *anchor, const char *text)
{
    if (is_empty(text))
        return;
    fprintf(to, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    put_text(to, text);
    fputs("</text>\n", to);
}

static void upright_text_at(FILE *to, double x, double y, const char *text)
{
    if (is_empty(text))
        return;
    fprintf(
        to,
        "<text transform=\"translate(%.1f %.1f) rotate(-90)\" text-anchor=\"middle\">", x,
        y);
    put_text(to, text);
    fputs("</text>\n", to);
}

static void begin(FILE *to, double height, const char *title)
{
    fprintf(
        to,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
        "height=\"%.0f\" font-family=\"sans-serif\" font-size=\"%d\" fill=\"%s\">\n",
        WIDTH, height, WIDTH, height, FONT, INK);
    fputs("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n", to);
    if (is_empty(title))
        return;
    fputs("<title>", to);
    put_text(to, title);
    fprintf(to,
            "</title>\n<text x=\"%d\" y=\"28\" text-anchor=\"middle\" font-size=\"16\">",
            WIDTH / 2);
    put_text(to, title);
    fputs("</text>\n", to);
}

static enum sl_code end(FILE *to, struct sl_err *err)
{
    fputs("</svg>\n", to);
    errno = 0;
    if (fflush(to) == 0 && ferror(to) == 0)
        return SL_OK;
    return sl_err_errno(err, errno != 0 ? errno : EIO, "SVG plot");
}

/* --- lines ------------------------------------------------------------------------ */

/* Colours that stay apart for readers with colour vision deficiencies. Source: Okabe and
 * Ito, Color Universal Design, 2008. Beyond eight, lines are dashed. */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#e69f00", "#56b4e9", "#000000", "#8c7a00"};
static const char *const dashes[] = {"", "7 4", "2 3", "9 3 2 3"};

#define N_COLOURS (sizeof(colours) / sizeof(colours[0]))
#define N_DASHES (sizeof(dashes) / sizeof(dashes[0]))

struct frame {
    struct sl_plot_axis x, y;
};

static double px(const struct frame *f, double v)
{
    return LEFT + sl_plot_axis_place(&f->x, v) * (WIDTH - LEFT - RIGHT);
}

static double py(const struct frame *f, double v)
{
    return HEIGHT - BOTTOM - sl_plot_axis_place(&f->y, v) * (HEIGHT - TOP - BOTTOM);
}

static struct frame fit(const struct sl_plot_lines *p)
{
    struct sl_plot_range x = SL_PLOT_RANGE_NONE, y = SL_PLOT_RANGE_NONE;
    for (size_t i = 0; i < p->n_series; i++) {
        sl_plot_range_add(&x, p->series[i].x, p->series[i].y, p->series[i].n);
        sl_plot_range_add(&y, p->series[i].y, p->series[i].x, p->series[i].n);
    }
    return (struct frame){sl_plot_axis_fit(&x, 10, false), sl_plot_axis_fit(&y, 7, true)};
}

static void grid_line(FILE *to, double x1, double y1, double x2, double y2,
                      const char *colour)
{
    fprintf(to, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
            x1, y1, x2, y2, colour);
}

static void draw_axes(FILE *to, const struct sl_plot_lines *p, const struct frame *f)
{
    char label[SL_PLOT_LABEL];
    for (int64_t k = f->y.first; k <= f->y.last; k++) {
        double y = py(f, sl_plot_axis_tick(&f->y, k));
        grid_line(to, LEFT, y, WIDTH - RIGHT, y, GRID);
        sl_plot_axis_label(&f->y, k, label);
        text_at(to, LEFT - 8, y + 4, "end", label);
    }
    for (int64_t k = f->x.first; k <= f->x.last; k++) {
        double x = px(f, sl_plot_axis_tick(&f->x, k));
        grid_line(to, x, TOP, x, HEIGHT - BOTTOM, GRID);
        sl_plot_axis_label(&f->x, k, label);
        text_at(to, x, HEIGHT - BOTTOM + 18, "middle", label);
    }
    grid_line(to, LEFT, TOP, LEFT, HEIGHT - BOTTOM, INK);
    grid_line(to, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, INK);
    text_at(to, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - BOTTOM + 42, "middle", p->x_name);
    upright_text_at(to, 18, (TOP + HEIGHT - BOTTOM) / 2.0, p->y_name);
}

static void stroke(FILE *to, size_t i)
{
    fprintf(to,
            "fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linejoin=\"round\"",
            colours[i % N_COLOURS]);
    if (i >= N_COLOURS)
        fprintf(to, " stroke-dasharray=\"%s\"", dashes[i / N_COLOURS % N_DASHES]);
}

/* A single point has no line and becomes a dot. */
static void draw_series(FILE *to, const struct sl_plot_series *s, size_t number,
                        const struct frame *f)
{
    size_t n = 0;
    double x = 0, y = 0;
    fputs("<polyline points=\"", to);
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->x[i]) || !isfinite(s->y[i]))
            continue;
        x = px(f, s->x[i]);
        y = py(f, s->y[i]);
        fprintf(to, "%s%.1f,%.1f", n++ == 0 ? "" : " ", x, y);
    }
    fputs("\" ", to);
    stroke(to, number);
    fputs("/>\n", to);
    if (n == 1)
        fprintf(to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x, y,
                colours[number % N_COLOURS]);
}

/* Entries stand in as many columns as the longest name allows. */
static int legend_columns(const struct sl_plot_lines *p)
{
    size_t longest = 1;
    for (size_t i = 0; i < p->n_series; i++)
        if (!is_empty(p->series[i].name) && strlen(p->series[i].name) > longest)
            longest = strlen(p->series[i].name);
    double room = (WIDTH - LEFT - RIGHT) / (LEGEND_LINE + 24 + CHAR * (double)longest);
    int columns = room < 1 ? 1 : (int)room;
    return (size_t)columns < p->n_series ? columns : (int)p->n_series;
}

static void draw_legend(FILE *to, const struct sl_plot_lines *p, int columns)
{
    double cell = (double)(WIDTH - LEFT - RIGHT) / columns;
    for (size_t i = 0; i < p->n_series; i++) {
        double x = LEFT + cell * (double)(i % (size_t)columns);
        double y = HEIGHT + 6 + LEGEND_ROW * (double)(i / (size_t)columns);
        fprintf(to, "<path d=\"M%.1f %.1fh%d\" ", x, y - 4, LEGEND_LINE);
        stroke(to, i);
        fputs("/>\n", to);
        text_at(to, x + LEGEND_LINE + 8, y, "start", p->series[i].name);
    }
}

enum sl_code sl_plot_svg_lines(FILE *to, const struct sl_plot_lines *p,
                               struct sl_err *err)
{
    int columns = p->n_series > 1 ? legend_columns(p) : 0;
    double rows = columns > 0 ? ceil((double)p->n_series / columns) : 0;
    const struct frame f = fit(p);
    begin(to, HEIGHT + LEGEND_ROW * rows, p->title);
    draw_axes(to, p, &f);
    for (size_t i = 0; i < p->n_series; i++)
        draw_series(to, &p->series[i], i, &f);
    if (columns > 0)
        draw_legend(to, p, columns);
    return end(to, err);
}

/* --- heat map --------------------------------------------------------------------- */

#define ROWS_MAX 200
#define COLS_MAX 100
#define CELLS_WIDTH (WIDTH - LEFT - HEAT_RIGHT)
#define HEAT_RIGHT 110  /* room for the scale */
#define HEAT_HEIGHT 480 /* of all cells, unless few rows need less */
#define CELL_HEIGHT_MAX 30.0
#define CELL_TEXT 11 /* least height of a cell with its count inside */
#define SCALE_WIDTH 16

/* Light to dark blue. Source of the five colours: Brewer, ColorBrewer 2.0, "Blues". */
static const uint8_t ramp[][3] = {
    {247, 251, 255}, {198, 219, 239}, {107, 174, 214}, {33, 113, 181}, {8, 48, 107}};

#define N_RAMP ((int)(sizeof(ramp) / sizeof(ramp[0])))

/* "#rrggbb" of part 0..1 of the ramp. */
static void colour_of(double part, char ret[8])
{
    double at = part * (N_RAMP - 1);
    int i = at >= N_RAMP - 1 ? N_RAMP - 2 : (int)at;
    unsigned v[3];
    for (int k = 0; k < 3; k++)
        v[k] =
            (unsigned)lround(ramp[i][k] + (at - i) * (ramp[i + 1][k] - ramp[i][k])) & 255;
    snprintf(ret, 8, "#%02x%02x%02x", v[0], v[1], v[2]);
}

struct table {
    const struct sl_plot_heat *heat;
    struct sl_plot_fold fold;
    double cell_w, cell_h; /* px */
    bool counts_shown;
};

static int digits_of(double v)
{
    return v < 10 ? 1 : 1 + (int)floor(log10(v));
}

static struct table lay_out(const struct sl_plot_heat *h)
{
    struct table t = {.heat = h, .fold = sl_plot_fold_fit(h, ROWS_MAX, COLS_MAX)};
    t.cell_w = (double)CELLS_WIDTH / (double)t.fold.cols;
    t.cell_h = fmin(CELL_HEIGHT_MAX, (double)HEAT_HEIGHT / (double)t.fold.rows);
    t.counts_shown = t.fold.per_row == 1 && t.fold.per_col == 1 &&
                     t.cell_h >= CELL_TEXT + 2 &&
                     t.cell_w >= CHAR * digits_of(t.fold.most) + 4;
    return t;
}

static void draw_cell(FILE *to, const struct table *t, size_t r, size_t c)
{
    double v = sl_plot_fold_mean(t->heat, &t->fold, r, c), most = t->fold.most;
    double part = most > 0 ? v / most : 0, gap = t->cell_h > 6 && t->cell_w > 6 ? 1 : 0;
    double x = LEFT + (double)c * t->cell_w, y = TOP + (double)r * t->cell_h;
    char colour[8];
    colour_of(part, colour);
    /* without gaps cells overlap a little: viewers leave light seams between exact edges
     */
    double over = gap > 0 ? -gap : 0.3;
    fprintf(to,
            "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"/>\n",
            x, y, t->cell_w + over, t->cell_h + over, colour);
    if (!t->counts_shown)
        return;
    fprintf(to,
            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-size=\"%d\" "
            "fill=\"%s\">%" PRIu64 "</text>\n",
            x + t->cell_w / 2, y + t->cell_h / 2 + 4, CELL_TEXT,
            part > 0.55 ? "#ffffff" : INK, t->heat->counts[r * t->heat->cols + c]);
}

/* Every how many cells of `size` px a label of `room` px fits: 1, 2, 5, 10, 20, 50 ... */
static size_t label_every(double size, double room)
{
    size_t every = 1;
    for (int i = 0; (double)every * size < room; i++)
        every = i % 3 == 1 ? every / 2 * 5 : every * 2;
    return every;
}

static void draw_heat_labels(FILE *to, const struct table *t, double bottom)
{
    char label[SL_PLOT_LABEL];
    size_t every = label_every(t->cell_h, FONT + 4);
    for (size_t r = 0; r < t->fold.rows; r += every) {
        snprintf(label, sizeof(label), "%zu", r * t->fold.per_row);
        text_at(to, LEFT - 6, TOP + ((double)r + 0.5) * t->cell_h + 4, "end", label);
    }
    every = label_every(t->cell_w, CHAR * digits_of((double)t->heat->cols) + 6);
    for (size_t c = 0; c < t->fold.cols; c += every) {
        snprintf(label, sizeof(label), "%zu", c * t->fold.per_col);
        text_at(to, LEFT + ((double)c + 0.5) * t->cell_w, bottom + 16, "middle", label);
    }
    text_at(to, LEFT + CELLS_WIDTH / 2.0, bottom + 38, "middle", t->heat->col_name);
    upright_text_at(to, 18, (TOP + bottom) / 2, t->heat->row_name);
}

static void draw_scale(FILE *to, const struct table *t, double bottom)
{
    double x = WIDTH - HEAT_RIGHT + 26, height = bottom - TOP;
    char text[SL_PLOT_LABEL];
    fputs("<linearGradient id=\"scale\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">", to);
    for (int i = 0; i < N_RAMP; i++) {
        double part = (double)i / (N_RAMP - 1);
        colour_of(part, text);
        fprintf(to, "<stop offset=\"%.2f\" stop-color=\"%s\"/>", part, text);
    }
    fprintf(to,
            "</linearGradient>\n<rect x=\"%.1f\" y=\"%d\" width=\"%d\" height=\"%.1f\" "
            "fill=\"url(#scale)\" stroke=\"%s\" stroke-width=\"0.5\"/>\n",
            x, TOP, SCALE_WIDTH, height, INK);
    const struct sl_plot_range range = {0, t->fold.most};
    const struct sl_plot_axis a = sl_plot_axis_fit(&range, height < 90 ? 2 : 5, false);
    for (int64_t k = a.first; t->fold.most > 0 && k <= a.last; k++) {
        sl_plot_axis_label(&a, k, text);
        text_at(to, x + SCALE_WIDTH + 6,
                bottom - sl_plot_axis_place(&a, sl_plot_axis_tick(&a, k)) * height + 4,
                "start", text);
    }
}

static void draw_fold_note(FILE *to, const struct table *t, double bottom)
{
    if (t->fold.per_row == 1 && t->fold.per_col == 1)
        return;
    char note[80];
    snprintf(note, sizeof(note), "a cell: mean of %zu x %zu", t->fold.per_row,
             t->fold.per_col);
    text_at(to, WIDTH - RIGHT, bottom + 38, "end", note);
}

enum sl_code sl_plot_svg_heat(FILE *to, const struct sl_plot_heat *h, struct sl_err *err)
{
    if (h->rows == 0 || h->cols == 0) {
        begin(to, TOP + BOTTOM, h->title);
        text_at(to, WIDTH / 2.0, TOP + 20, "middle", "no counts");
        return end(to, err);
    }
    const struct table t = lay_out(h);
    double bottom = TOP + t.cell_h * (double)t.fold.rows;
    begin(to, bottom + BOTTOM, h->title);
    for (size_t r = 0; r < t.fold.rows; r++)
        for (size_t c = 0; c < t.fold.cols; c++)
            draw_cell(to, &t, r, c);
    draw_heat_labels(to, &t, bottom);
    draw_scale(to, &t, bottom);
    draw_fold_note(to, &t, bottom);
    return end(to, err);
}

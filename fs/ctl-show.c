/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "common/control.h"
#include "fs/ctl.h"

#define BAR 20

static const char *text_of(json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

/* "12.3M" */
static const char *human(double bytes, char buf[16])
{
	static const char units[] = " KMGTPE";
	size_t u = 0;

	while (bytes >= 999.5 && u < sizeof(units) - 2) {
		bytes /= 1024;
		u++;
	}
	if (u == 0)
		snprintf(buf, 16, "%.0f", bytes);
	else
		snprintf(buf, 16, bytes < 9.95 ? "%.1f%c" : "%.0f%c", bytes, units[u]);
	return buf;
}

static const char *age(json_t *value, char buf[24])
{
	unsigned s = (unsigned)json_number_value(value);

	if (!json_is_number(value))
		snprintf(buf, 24, "-");
	else if (s < 3600)
		snprintf(buf, 24, "%u:%02u", s / 60, s % 60);
	else
		snprintf(buf, 24, "%uh%02u", s / 3600, s / 60 % 60);
	return buf;
}

static void put_name(const char *name, FILE *out)
{
	while (*name) {
		size_t control = control_length(name);

		fputc(control ? '?' : *name, out);
		name += control ? control : 1;
	}
}

static void put_progress(json_t *file, FILE *out, bool bars)
{
	json_t *declared = json_object_get(file, "declared");
	double size = json_number_value(declared);
	double part = size > 0 ? json_number_value(json_object_get(file, "edge")) / size : 1;
	int full = (int)(part * BAR);

	if (!json_is_integer(declared)) {
		fprintf(out, "%*s", bars ? BAR + 8 : 5, "-");
		return;
	}
	if (bars)
		fprintf(out, " [%.*s%.*s]", full, "####################", BAR - full,
			"....................");
	fprintf(out, " %3d%%", (int)(part * 100));
}

static void put_writers(json_t *file, FILE *out)
{
	json_t *writers = json_object_get(file, "writers"), *w;
	char text[64] = "-";
	size_t i, at = 0;

	json_array_foreach(writers, i, w) if (at < sizeof(text)) at += (size_t)snprintf(text + at,
		sizeof(text) - at, "%s%s:%" JSON_INTEGER_FORMAT, i ? "," : "",
		text_of(w, "command"), json_integer_value(json_object_get(w, "pid")));
	fputc(' ', out);
	put_name(text, out);
	fprintf(out, "%*s ", strlen(text) < 20 ? 20 - (int)strlen(text) : 0, "");
}

static void put_file(json_t *file, FILE *out, bool bars)
{
	char edge[16], rate[16], since[24];
	const char *path = text_of(file, "path"), *reason = text_of(file, "reason");

	fprintf(out, "%-8s %7s", text_of(file, "state"),
		human(json_number_value(json_object_get(file, "edge")), edge));
	put_progress(file, out, bars);
	fprintf(out, " %7s/s %4" JSON_INTEGER_FORMAT " %6s",
		human(json_number_value(json_object_get(file, "rate")), rate),
		json_integer_value(json_object_get(file, "readers")),
		age(json_object_get(file, "age"), since));
	put_writers(file, out);
	put_name(*path ? path : "(unlinked)", out);
	if (*reason) {
		fputs("  [", out);
		put_name(reason, out);
		fputc(']', out);
	}
	fputc('\n', out);
}

void ctl_show(json_t *status, FILE *out, bool bars, int columns)
{
	json_t *files = json_object_get(status, "files"), *file;
	json_t *mode = json_object_get(status, "mode");
	size_t i;

	bars = bars && columns >= 100;
	put_name(text_of(status, "store"), out);
	fputs(" on ", out);
	put_name(text_of(status, "mountpoint"), out);
	fprintf(out, ": passthrough %s, hold=%s, pid %" JSON_INTEGER_FORMAT "\n",
		json_is_true(json_object_get(mode, "passthrough")) ? "on" : "off",
		text_of(json_object_get(status, "options"), "hold"),
		json_integer_value(json_object_get(status, "pid")));
	if (json_array_size(files) == 0) {
		fputs("no file is growing or aborted\n", out);
		return;
	}
	fprintf(out, "%-8s %7s%*s %9s %4s %6s %-20s %s\n", "STATE", "EDGE", bars ? BAR + 8 : 5,
		"DONE", "RATE", "HELD", "AGE", "WRITERS", "FILE");
	json_array_foreach(files, i, file) put_file(file, out, bars);
}

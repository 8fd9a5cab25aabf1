# SPDX-License-Identifier: MIT
# Varnish (6.4 or later) in front of rww-httpd: however many clients follow a growing file, it is
# fetched once, and each has it from its beginning on, live.
vcl 4.1;

backend default {
	.host = "@ROOT@"; # where rww-httpd listens
	.between_bytes_timeout = 1h; # how long a writer may pause
}

sub vcl_recv {
	# How long a client may follow: by itself Varnish cuts every answer after ten minutes.
	set sess.send_timeout = 1y;
	# Only a reset tells a client of HTTP/1.0 that it was cut, and Varnish sends none.
	if (req.proto == "HTTP/1.0") {
		return (synth(505));
	}
	# Asked for again, see vcl_deliver: past what is kept, and at last as it is.
	if (req.restarts == 1) {
		set req.hash_always_miss = true;
	}
	# As they are: an upload that breaks off would end well behind Varnish, and it does not take a
	# part of a file that has no end yet. What is held there may take its time: pipe_timeout.
	if (req.method != "GET" && req.method != "HEAD" || req.http.Range || req.http.Prefer ||
	    req.restarts > 1) {
		return (pipe);
	}
}

sub vcl_pipe {
	set bereq.http.Connection = "close";
}

sub vcl_backend_response {
	set beresp.grace = 0s;
	# It will be cut, which becomes an error that way; see vcl_deliver.
	if (beresp.http.X-Rww-State == "aborted") {
		set beresp.do_stream = false;
	}
	# It grows. Who comes in these seconds shares the answer; later ones begin another.
	if (beresp.status == 200 && beresp.http.Cache-Control ~ "no-store") {
		set beresp.ttl = 10s;
		return (deliver);
	}
	# It is complete: kept, and asked about.
	if (beresp.http.ETag && !beresp.http.Cache-Control) {
		set beresp.ttl = 1s;
		set beresp.keep = 1h;
	}
}

sub vcl_backend_error {
	set beresp.ttl = 0s;
}

# Varnish (7.1) ends an answer well whose fetch has failed before it begins to give it to a client:
# what grew must still be on its way.
sub vcl_deliver {
	if (resp.status == 200 && resp.http.Cache-Control ~ "no-store" && !resp.is_streaming) {
		return (restart);
	}
	if (resp.status == 503) {
		return (restart);
	}
}

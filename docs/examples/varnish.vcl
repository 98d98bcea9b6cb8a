# VCL for Varnish 7.0 and later with a fanout edge; see docs/cdn.md.
vcl 4.1;

import std;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
}

# Allowed to purge: the edge, which runs on this machine.
acl purgers {
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.method == "PURGE" || req.method == "BAN") {
        # Two addresses in X-Forwarded-For: the request came through a proxy on this machine.
        if (client.ip !~ purgers || req.http.X-Forwarded-For ~ ",") {
            return (synth(405));
        }
        if (req.method == "PURGE") {
            return (purge);
        }
        if (req.http.Fanout-Keys) {
            ban("obj.http.Surrogate-Key ~ (^|\s)" + req.http.Fanout-Keys + "(\s|$)");
        } elsif (req.http.Fanout-Everything) {
            ban("obj.status != 0");
        } else {
            return (synth(400));
        }
        return (synth(200));
    }
}

sub vcl_backend_response {
    std.collect(beresp.http.Surrogate-Key, " ");

    # The edge purges a second time after --settle-seconds. A response that was in flight for
    # longer would stay in the cache, so it is delivered but not stored.
    # Keep this time slightly below --settle-seconds.
    if (beresp.time - bereq.time > 1.8s) {
        set beresp.ttl = 10s; # hit-for-miss: requests for this page are not serialised
        set beresp.uncacheable = true;
    }
}

sub vcl_deliver {
    # Keys are internal: do not send them to visitors.
    unset resp.http.Surrogate-Key;
}

# Varnish with an edge of fanout beside it; see docs/cdn.md. For Varnish 7.0 and later.
vcl 4.1;

import std;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
}

# Who may purge: the edge, which runs on this machine.
acl purgers {
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.method == "PURGE" || req.method == "BAN") {
        # Two addresses in X-Forwarded-For: it came through a proxy on this machine.
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

    # The edge purges a second time after its --settle-seconds. What the origin began to answer
    # before a purge and delivered later than that would stay: it is passed on, but not kept.
    # Keep this time a little below --settle-seconds.
    if (beresp.time - bereq.time > 1.8s) {
        set beresp.ttl = 10s; # for so long visitors of this page do not wait for each other
        set beresp.uncacheable = true;
    }
}

sub vcl_deliver {
    # Visitors need not know what a page is made of.
    unset resp.http.Surrogate-Key;
}

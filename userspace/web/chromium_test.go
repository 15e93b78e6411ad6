package web_test

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts Chromium, which asks nobody but the page.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		const reason = "no chromium here: scripts/setup installs it"
		if os.Getenv("UNSPAN_CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir())}
	for _, flag := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // and it has written its last file
			t.Error(err)
		}
	})
	return ctx
}

const (
	rendered = `document.querySelector("#search tbody tr") !== null && document.querySelector("#map .picture svg") !== null`
)

// The page in a browser: no complaint, no request elsewhere, the ledger's
// numbers, losses by name, names as text, a search that filters; narrow and dark.
func TestPageInChromium(t *testing.T) {
	server := httptest.NewServer(open(t, config()))
	defer server.Close()
	ctx := browser(t)
	var trouble []string
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			trouble = append(trouble, e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			trouble = append(trouble, "console: "+string(e.Type))
		case *log.EventEntryAdded:
			trouble = append(trouble, e.Entry.Text+" "+e.Entry.URL)
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, server.URL+"/") {
				trouble = append(trouble, "asks "+e.Request.URL)
			}
		}
	})
	var losses, stages, feeds, verdict, found, flows string
	var images, losing, overflow int
	const excess = `document.documentElement.scrollWidth - document.documentElement.clientWidth`
	if err := chromedp.Run(ctx, log.Enable(), network.Enable(), chromedp.EmulateViewport(1280, 1600),
		chromedp.Navigate(server.URL), chromedp.Poll(rendered, nil),
		chromedp.Text("#kinds", &losses), chromedp.Text("#stages", &stages), chromedp.Text("#feeds", &feeds),
		chromedp.Text("#verdict", &verdict), chromedp.Text("#search", &flows),
		chromedp.Evaluate(`document.images.length`, &images), chromedp.Evaluate(excess, &overflow),
		chromedp.Evaluate(`document.querySelectorAll("#stages .band.loss").length`, &losing),
	); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12,345", "877", "60", "lost on the way here", "fill ring empty", "disk too slow", "lost: kernel", "lost: upstream", "lost: disk", "1,010,940", "dropped: policy"} {
		if !strings.Contains(stages, want) {
			t.Errorf("the ledger does not show %q: %s", want, stages)
		}
	}
	if losing != 3 {
		t.Errorf("%d bands of losses are drawn, want 3", losing)
	}
	for where, want := range map[string]string{losses: "wire: lost on the way here 12,345", feeds: "192.0.2.7/erspan2/1000", verdict: "Every line adds up", flows: hostile} {
		if !strings.Contains(where, want) {
			t.Errorf("%q is not in %s", want, where)
		}
	}
	if overflow > 0 {
		t.Errorf("a wide page is %d pixels too wide", overflow)
	}
	if images != 0 {
		t.Error("a name became markup")
	}

	if err := chromedp.Run(ctx,
		chromedp.SetValue("#words", "198.51.100.7"), chromedp.Click("#search button[type=submit]"),
		chromedp.Poll(`document.querySelectorAll("#search tbody tr").length === 1`, nil),
		chromedp.Text("#found", &found), chromedp.Text("#search tbody", &flows)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(found, "1 flow shown") || !strings.Contains(flows, "198.51.100.7:40006") {
		t.Errorf("searching: %q, %s", found, flows)
	}

	var light, dark string
	const ground = `getComputedStyle(document.body).backgroundColor`
	scheme := func(value string) chromedp.Action {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}})
	}
	if err := chromedp.Run(ctx,
		chromedp.EmulateViewport(360, 740), chromedp.Evaluate(excess, &overflow),
		scheme("light"), chromedp.Evaluate(ground, &light), scheme("dark"), chromedp.Evaluate(ground, &dark)); err != nil {
		t.Fatal(err)
	}
	if overflow > 0 {
		t.Errorf("a narrow page is %d pixels too wide", overflow)
	}
	if light == dark {
		t.Errorf("the dark page is as light as the other: %s", light)
	}
	if len(trouble) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(trouble, "; "))
	}
}

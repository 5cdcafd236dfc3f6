// Receives profiles as Grafana Pyroscope does, by the handler and the messages of its published API, and
// writes a line of JSON for each to a file.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"os"
	"sync"

	"connectrpc.com/connect"
	profilev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	"google.golang.org/protobuf/proto"
)

// What is written of a profile.
type received struct {
	Labels map[string]string `json:"labels"`
	ID     string            `json:"id"`
	// `samples/count`, and the sum of each.
	Types  []string `json:"types"`
	Totals []int64  `json:"totals"`
	// The same of the stacks that each function is in.
	Functions     map[string][]int64 `json:"functions"`
	BuildIDs      []string           `json:"build_ids"`
	Period        int64              `json:"period"`
	TimeNanos     int64              `json:"time_nanos"`
	DurationNanos int64              `json:"duration_nanos"`
	Headers       map[string]string  `json:"headers"`
}

type receiver struct {
	lock sync.Mutex
	to   *json.Encoder
}

// As pkg/distributor of Pyroscope does: each series is taken or refused by itself.
func (r *receiver) Push(
	_ context.Context, request *connect.Request[pushv1.PushRequest],
) (*connect.Response[pushv1.PushResponse], error) {
	headers := map[string]string{}
	for _, name := range []string{"Content-Type", "User-Agent", "X-Scope-OrgID", "Authorization"} {
		if value := request.Header().Get(name); value != "" {
			headers[name] = value
		}
	}
	if len(request.Msg.Series) == 0 {
		return nil, refused(errors.New("no profiles received"))
	}
	var not []string
	for index, series := range request.Msg.Series {
		if err := r.keep(series, headers); err != nil {
			not = append(not, fmt.Sprintf("push series with index %d and id %s failed: %s",
				index, series.Samples[0].ID, err))
		}
	}
	switch len(not) {
	case 0:
		return connect.NewResponse(&pushv1.PushResponse{}), nil
	case 1:
		return nil, refused(errors.New(not[0]))
	default:
		return nil, refused(fmt.Errorf("%d errors: %s", len(not), strings.Join(not, "; ")))
	}
}

func (r *receiver) keep(series *pushv1.RawProfileSeries, headers map[string]string) error {
	labels := map[string]string{}
	for _, label := range series.Labels {
		if _, twice := labels[label.Name]; twice {
			return fmt.Errorf("label %q is there twice", label.Name)
		}
		labels[label.Name] = label.Value
	}
	for _, sample := range series.Samples {
		one, err := read(sample.RawProfile)
		if err != nil {
			return err
		}
		one.Labels, one.ID, one.Headers = labels, sample.ID, headers
		r.lock.Lock()
		err = r.to.Encode(one)
		r.lock.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func refused(err error) error {
	return connect.NewError(connect.CodeInvalidArgument, err)
}

func read(packed []byte) (*received, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, err
	}
	var profile profilev1.Profile
	if err := proto.Unmarshal(plain, &profile); err != nil {
		return nil, err
	}
	text := func(at int64) string { return profile.StringTable[at] }
	functions := map[uint64]string{}
	for _, function := range profile.Function {
		functions[function.Id] = text(function.Name)
	}
	locations := map[uint64][]string{}
	for _, location := range profile.Location {
		for _, line := range location.Line {
			locations[location.Id] = append(locations[location.Id], functions[line.FunctionId])
		}
	}
	one := &received{
		Functions:     map[string][]int64{},
		Totals:        make([]int64, len(profile.SampleType)),
		Period:        profile.Period,
		TimeNanos:     profile.TimeNanos,
		DurationNanos: profile.DurationNanos,
	}
	for _, kind := range profile.SampleType {
		one.Types = append(one.Types, text(kind.Type)+"/"+text(kind.Unit))
	}
	for _, mapping := range profile.Mapping {
		one.BuildIDs = append(one.BuildIDs, text(mapping.BuildId))
	}
	for _, sample := range profile.Sample {
		if len(sample.Value) != len(one.Totals) {
			return nil, fmt.Errorf("%d values, %d types", len(sample.Value), len(one.Totals))
		}
		seen := map[string]bool{}
		for _, location := range sample.LocationId {
			for _, name := range locations[location] {
				seen[name] = true
			}
		}
		for n, value := range sample.Value {
			one.Totals[n] += value
			for name := range seen {
				if one.Functions[name] == nil {
					one.Functions[name] = make([]int64, len(one.Totals))
				}
				one.Functions[name][n] += value
			}
		}
	}
	return one, nil
}

func main() {
	address := flag.String("address", "", "where to listen")
	output := flag.String("output", "", "where to write what is received")
	flag.Parse()
	file, err := os.Create(*output)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(pushv1connect.NewPusherServiceHandler(&receiver{to: json.NewEncoder(file)}))
	log.Fatal(http.ListenAndServe(*address, mux))
}

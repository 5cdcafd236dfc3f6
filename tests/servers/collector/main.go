// OpenTelemetry's collector, as far as profiles go: its OTLP receiver, and an exporter that writes what came
// in to a file, a message a line.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/xexporter"
	"go.opentelemetry.io/collector/featuregate"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"
)

const config = `yaml:
receivers:
  otlp:
    protocols:
      grpc: {endpoint: %q%s}
      http: {endpoint: %q}
exporters:
  lines: {output: %q}
service:
  pipelines:
    profiles: {receivers: [otlp], exporters: [lines]}
`

var kind = component.MustNewType("lines")

// Settings of the exporter.
type Settings struct {
	Output string `mapstructure:"output"`
}

type lines struct {
	component.ShutdownFunc
	component.StartFunc
	lock sync.Mutex
	to   *os.File
}

func (*lines) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (l *lines) ConsumeProfiles(_ context.Context, profiles pprofile.Profiles) error {
	line, err := (&pprofile.JSONMarshaler{}).MarshalProfiles(profiles)
	if err != nil {
		return err
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	_, err = l.to.Write(append(line, '\n'))
	return err
}

func create(_ context.Context, _ exporter.Settings, settings component.Config) (xexporter.Profiles, error) {
	file, err := os.Create(settings.(*Settings).Output)
	return &lines{to: file}, err
}

func factories() (otelcol.Factories, error) {
	lines := xexporter.NewFactory(
		kind,
		func() component.Config { return &Settings{} },
		xexporter.WithProfiles(create, component.StabilityLevelDevelopment),
	)
	otlp := otlpreceiver.NewFactory()
	return otelcol.Factories{
		Receivers: map[component.Type]receiver.Factory{otlp.Type(): otlp},
		Exporters: map[component.Type]exporter.Factory{kind: lines},
		Telemetry: telemetry.NewFactory(func() component.Config { return &struct{}{} }),
	}, nil
}

func main() {
	grpc := flag.String("grpc", "", "where to listen for gRPC")
	http := flag.String("http", "", "where to listen for HTTP")
	output := flag.String("output", "", "where to write what is received")
	certificate := flag.String("certificate", "", "of the server, for gRPC; without, it speaks no TLS")
	key := flag.String("key", "", "of the certificate")
	flag.Parse()
	tls := ""
	if *certificate != "" {
		tls = fmt.Sprintf(", tls: {cert_file: %q, key_file: %q}", *certificate, *key)
	}
	if err := featuregate.GlobalRegistry().Set("service.profilesSupport", true); err != nil {
		log.Fatal(err)
	}
	collector, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Version: "tests"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{fmt.Sprintf(config, *grpc, tls, *http, *output)},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := collector.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

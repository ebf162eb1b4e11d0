// Decodes each object of a YAML stream on standard input into the Prometheus operator's own
// types. A kind or a field that these don't have is an error.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	stream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func decode(document []byte) error {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	objects := map[string]any{
		"PodMonitor":     new(monitoring.PodMonitor),
		"PrometheusRule": new(monitoring.PrometheusRule),
		"ServiceMonitor": new(monitoring.ServiceMonitor),
	}
	object, known := objects[kind.Kind]
	if !known || kind.APIVersion != monitoring.SchemeGroupVersion.String() {
		return fmt.Errorf("unknown kind %s %s", kind.APIVersion, kind.Kind)
	}
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		return fmt.Errorf("%s: %w", kind.Kind, err)
	}
	return nil
}

func main() {
	documents := stream.NewYAMLReader(bufio.NewReader(os.Stdin))
	count := 0
	for ; ; count++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = decode(document)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println(count)
}

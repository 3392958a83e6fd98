package resourcemetrics

import (
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// selection is what a list is narrowed to; the API server does it on our objects.
type selection struct {
	labels string
	fields []string
}

// selectionOf reads the selectors of a list request. Labels are those of the Node or
// Pod; of fields there are only the name and namespace.
func selectionOf(query url.Values) (selection, error) {
	if _, err := labels.Parse(query.Get("labelSelector")); err != nil {
		return selection{}, apierrors.NewBadRequest(fmt.Sprintf("unable to parse requirement: %v", err))
	}
	selected := selection{labels: query.Get("labelSelector")}
	given := query.Get("fieldSelector")
	if given == "" {
		return selected, nil
	}
	selector, err := fields.ParseSelector(given)
	if err != nil {
		return selection{}, apierrors.NewBadRequest(err.Error())
	}
	for _, requirement := range selector.Requirements() {
		if requirement.Field != "metadata.name" && requirement.Field != "metadata.namespace" {
			return selection{}, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", requirement.Field))
		}
	}
	selected.fields = []string{selector.String()}
	return selected, nil
}

func (s selection) query() url.Values {
	query := url.Values{}
	if s.labels != "" {
		query.Set("labelSelector", s.labels)
	}
	if len(s.fields) > 0 {
		query.Set("fieldSelector", strings.Join(s.fields, ","))
	}
	return query
}

// Nobody is signed in: the page of results asks who reads, and comes back here.
window.stop();
window.location.replace('/radclear/#/viewer/' + encodeURIComponent(window.location.pathname + window.location.search));
